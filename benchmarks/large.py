"""One execution with very many steps: whether its last steps cost what its first did, and how large processes grow."""

import threading
import urllib.request
from typing import Any

from apps.workflows.models import Execution, Task
from benchmarks.executing import made, start, wait_for
from benchmarks.host import Installation
from benchmarks.shapes import LARGE, Sizes

SAMPLE_SECONDS = 0.5


class Memory(threading.Thread):
    """The most that server and workers had, sampled until `end`."""

    def __init__(self, installation: Installation) -> None:
        super().__init__(daemon=True)
        self._installation = installation
        self._ending = threading.Event()
        self.most: dict[str, tuple[float, float]] = {}

    def run(self) -> None:
        """Until `end`."""
        while True:
            for role in ("server", "worker"):
                resident, own = self._installation.megabytes(role)
                had = self.most.get(role, (0.0, 0.0))
                self.most[role] = (max(had[0], resident), max(had[1], own))
            if self._ending.wait(SAMPLE_SECONDS):
                return

    def end(self) -> dict[str, tuple[float, float]]:
        """The most, in megabytes by role: resident, and of that what is no file's page."""
        self._ending.set()
        self.join()
        return self.most


def measure(installation: Installation, sizes: Sizes) -> list[dict[str, Any]]:
    """For each size, the smallest first: the memory of an installation does not shrink again."""
    return [_measure(installation, count) for count in sizes.large]


def _measure(installation: Installation, count: int) -> dict[str, Any]:
    """Milliseconds a step over all, in the first tenth and in the last; the memory, pages about it included."""
    workflow = made(LARGE)
    memory = Memory(installation)
    memory.start()
    began = start(workflow, inputs={"numbers": list(range(count))})
    [execution] = wait_for([began.pk])
    for page in (
        f"progress/{execution.pk}",
        f"progress/{execution.pk}/history?limit=1000",
        f"executions/{execution.pk}/tasks",
    ):
        with urllib.request.urlopen(f"{installation.url}/{page}", timeout=60) as answer:  # noqa: S310 (our own server)
            answer.read()
    return {"count": count, **_tenths(execution, count), "memory": memory.end()}


def _tenths(execution: Execution, count: int) -> dict[str, float]:
    rows = Task.objects.filter(execution=execution, step_id__startswith="s[")
    ends = [moment for moment in rows.order_by("finished_at").values_list("finished_at", flat=True) if moment]
    if len(ends) != count or execution.finished_at is None:
        raise SystemExit(f"{len(ends)} of {count} items ended")
    tenth = count // 10

    def each(first: int, last: int) -> float:
        return 1000 * (ends[last] - ends[first]).total_seconds() / (last - first)

    return {
        "all": 1000 * (execution.finished_at - execution.created_at).total_seconds() / count,
        "first": each(0, tenth),
        "last": each(count - 1 - tenth, count - 1),
    }
