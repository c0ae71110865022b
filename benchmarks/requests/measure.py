"""The endpoints that are asked most, in turn with the bare views; lists over very many rows.

`python -m benchmarks.requests.measure REPEAT [--quick]` in the environment of an installation; its last line is JSON.
"""

import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from typing import Any
from uuid import UUID

import django

from benchmarks.host import ROOT
from benchmarks.live.fanout import prepare, serving
from benchmarks.requests.load import load, request
from tests.support import postgres

SECONDS, QUICK_SECONDS = 4.0, 0.5  # of each measurement
ROWS, QUICK_ROWS = 100_000, 500  # executions in the lists
ARRAY = 1000
BARE = [sys.executable, "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p"]
LISTS = {
    "the newest": "/executions",
    "one status": "/executions?status=completed",
    "a status that is rare": "/executions?status=failed",
    "one workflow": "/executions?workflow_id=hot",
    "tasks": "/tasks",
    "tasks, one status": "/tasks?status=completed",
    "tasks, a rare status": "/tasks?status=failed",
    "tasks, one workflow": "/tasks?workflow_id=hot",
    "workflows": "/workflows",
}
_numbers = itertools.count()


def run(repeat: int, *, quick: bool) -> dict[str, Any]:
    """Answers a second of each run, ours and bare in turn; and p95 of each list in milliseconds."""
    seconds = QUICK_SECONDS if quick else SECONDS
    token = json.loads((Path(os.environ["DATA_DIR"]) / "tokens.json").read_text())[0]
    _tracker()
    found: dict[str, Any] = {name: [] for name in ("write", "bare write", "read", "bare read", "array")}
    ours, bare = postgres.free_port(), postgres.free_port()

    def asking(port: int, method: str, path: str) -> Callable[[int], bytes]:
        return lambda _: request(port, method, path, token, _report() if method == "POST" else b"")

    with (
        serving([sys.executable, str(ROOT / "manage.py"), "server", "--port", str(ours)], ours),
        serving([*BARE, str(bare), "benchmarks.requests.bare_asgi:application"], bare),
    ):
        asked = {
            "bare write": asking(bare, "POST", "/bare/hot"), "write": asking(ours, "POST", "/progress/update"),
            "bare read": asking(bare, "GET", "/bare/hot"), "read": asking(ours, "GET", "/progress/hot"),
        }  # fmt: skip
        for name, make in asked.items():  # what is loaded at the first request is not measured
            load(bare if name.startswith("bare") else ours, make, 0.3)
        for _ in range(repeat):
            for name, make in asked.items():
                found[name].append(load(bare if name.startswith("bare") else ours, make, seconds).per_second)
            took = load(ours, lambda _: request(ours, "POST", "/progress/update", token, _array()), seconds, 1).took
            found["array"].append(ARRAY * 1000 * len(took) / sum(took) if took else 0.0)
        _fill(QUICK_ROWS if quick else ROWS)
        found["lists"] = {
            title: _p95(load(ours, asking(ours, "GET", path), seconds, 1).took) for title, path in LISTS.items()
        }
    return found


def _p95(took: list[float]) -> float:
    return quantiles(took, n=20)[18] if len(took) > 1 else 0.0


def _tracker() -> None:
    from apps.accounts.models import User
    from apps.workflows.engine.states import Status
    from apps.workflows.services import trackers

    one = trackers.TrackerUpdate(workflow_id="hot", status=Status.IN_PROGRESS, percent=1)
    trackers.update([one], by=User.objects.get(username="bench-0"))


def _one() -> dict[str, Any]:
    """A report that says something new."""
    message = f"Processing data {next(_numbers)}"
    return {"workflow_id": "hot", "percent_complete": 50.0, "status": "in_progress", "message": message}


def _report() -> bytes:
    return json.dumps(_one()).encode()


def _array() -> bytes:
    return json.dumps([_one() for _ in range(ARRAY)]).encode()


def _fill(count: int) -> None:
    """So many completed executions of one task, older than the tracker's."""
    from django.utils import timezone

    from apps.workflows.models import Execution, Task

    last = Execution.objects.get(workflow__slug="hot")
    now = timezone.now()
    for start in range(0, count, 5000):
        ids = [UUID(int=last.pk.int - (number + 1) * 2**64) for number in range(start, min(start + 5000, count))]
        common = {"created_at": now, "started_at": now, "updated_at": now, "finished_at": now}
        Execution.objects.bulk_create(
            Execution(
                id=key, workflow_id=last.workflow_id, version_id=last.version_id, status="completed", percent=100.0,
                tasks_total=1, seq=1, **common,
            )
            for key in ids
        )  # fmt: skip
        Task.objects.bulk_create(
            Task(
                id=UUID(int=key.int + 1), execution_id=key, step_id="one", status="completed", percent=100.0, fence=1,
                started_at=now, finished_at=now,
            )
            for key in ids
        )  # fmt: skip
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def main() -> None:
    """Run and print."""
    django.setup()
    prepare()
    print(json.dumps(run(int(sys.argv[1]), quick="--quick" in sys.argv)))


if __name__ == "__main__":
    main()
