"""The shapes on one database, given by the environment: real worker processes, real commits. Prints one JSON line."""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import django

ROOT = Path(__file__).resolve().parent.parent
CHAIN = 200
FAN_OUT = 1000
INDEPENDENT = 200


def chain(length: int) -> list[dict[str, Any]]:
    """Steps that follow one another and do nothing."""
    return [
        {"id": f"s{n}", "python": "builtin.noop", **({"depends_on": [f"s{n - 1}"]} if n else {})} for n in range(length)
    ]


def fan_out(width: int) -> list[dict[str, Any]]:
    """Steps that wait for nothing and do nothing."""
    return [{"id": f"s{n}", "python": "builtin.noop"} for n in range(width)]


def run(workers: int, repeat: int) -> dict[str, list[float]]:
    """Milliseconds a step, by shape."""
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    from apps.accounts.models import User
    from apps.workflows.services import workflows

    user = User.objects.create(username="bench")
    made = {
        name: workflows.create({"name": name, "steps": steps}, by=user)
        for name, steps in (("chain", chain(CHAIN)), ("fan out", fan_out(FAN_OUT)), ("short", chain(3)))
    }
    processes = [
        subprocess.Popen([sys.executable, str(ROOT / "manage.py"), "worker"], cwd=ROOT) for _ in range(workers)
    ]
    try:
        measured(made["short"], user, 1)  # the workers are up
        return {
            f"chain of {CHAIN} no-ops": [measured(made["chain"], user, 1) for _ in range(repeat)],
            f"fan-out of {FAN_OUT:,} no-ops": [measured(made["fan out"], user, 1) for _ in range(repeat)],
            f"{INDEPENDENT} executions of 3 steps": [measured(made["short"], user, INDEPENDENT) for _ in range(repeat)],
        }
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)


def measured(workflow: Any, user: Any, count: int) -> float:
    """Milliseconds a step of `count` executions, from the first one's creation to the last one's end."""
    from apps.workflows.models import Execution
    from apps.workflows.services import executions

    ids = [executions.start(workflow, by=user).pk for _ in range(count)]
    deadline = time.monotonic() + 300
    rows = Execution.objects.filter(pk__in=ids)
    while rows.filter(finished_at__isnull=True).exists():
        if time.monotonic() > deadline:
            raise SystemExit("the workers did not finish within 300 s")
        time.sleep(0.05)
    bad = rows.exclude(status="completed").count()
    if bad:
        raise SystemExit(f"{bad} executions did not complete")
    ended = list(rows)
    seconds = (
        max(row.finished_at for row in ended if row.finished_at) - min(row.created_at for row in ended)
    ).total_seconds()
    return 1000 * seconds / sum(row.tasks_total for row in ended)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    options = parser.parse_args()
    django.setup()
    print(json.dumps({"shapes": run(options.workers, options.repeat)}))


if __name__ == "__main__":
    main()
