"""Where the time of a step goes inside the ledger's turns: each part with its own time only, so that they add up.

One performer in this process, which reports at once what it claimed: no executor, no event loop, no other worker.
"""

import functools
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections

from apps.workflows.engine.types import Completed
from apps.workflows.services import ledger
from apps.workflows.services.ledger import Report, Wanted, sql, unit
from benchmarks.executing import made, start
from benchmarks.shapes import Sizes, definition

SHAPES = ("chain", "fan-out")
SLOTS = 16
COMMIT = "commit"
_TURN = "the rest of a turn"


class Clock:
    """Adds up how long parts take, without the parts within them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._within: list[float] = []

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time added to a part."""

        @functools.wraps(function)
        def timed(*values: Any, **named: Any) -> Any:
            self._within.append(0.0)
            began = time.perf_counter()
            try:
                return function(*values, **named)
            finally:
                passed = time.perf_counter() - began
                self.seconds[name] += passed - self._within.pop()
                if self._within:
                    self._within[-1] += passed

        return timed


def measure(sizes: Sizes) -> dict[str, dict[str, float]]:
    """By shape, microseconds a step by part; of the second of two runs."""
    return {shape: _of(shape, sizes) for shape in SHAPES}


def _of(shape: str, sizes: Sizes) -> dict[str, float]:
    workflow = made(definition(shape, sizes))
    steps = 0
    clock = Clock()
    for _ in range(2):
        clock = Clock()
        start(workflow)
        with _parts(clock) as turn:
            steps = _drive(turn)
    if steps != sizes.steps(shape):
        raise SystemExit(f"{steps} of {sizes.steps(shape)} steps of {shape} were performed")
    return {name: 1e6 * seconds / steps for name, seconds in clock.seconds.items()}


def _drive(turn: Callable[..., Any]) -> int:
    """Perform all that there is; gives how many steps that was."""
    reports: list[Report] = []
    done, look = 0, True
    while True:
        result = turn(reports, Wanted(owner="bench", slots=SLOTS, lease_seconds=30.0, look=look))
        done += len(reports)
        reports = [
            Report(task_id=task.task_id, happening=Completed(step_id=task.step_id, fence=task.fence, outputs={}))
            for task in result.claimed
        ]
        # As a worker does: it looks at the line when it was told that there is more.
        look = result.more or not result.looked
        if not reports and not look:
            return done


@contextmanager
def _parts(clock: Clock) -> Iterator[Callable[..., Any]]:
    """A turn whose parts are timed; as before afterwards."""
    link = connections["default"]
    of_turn = sys.modules[ledger.turn.__module__]  # the package names the function as the module
    parts: Mapping[tuple[Any, str], str] = {
        (link, "_start_transaction_under_autocommit"): "begin",
        (link, "_set_autocommit"): "begin",
        (link, "_commit"): COMMIT,
        (sql, "lock_executions"): "lock and read executions",
        (sql, "tasks"): "read tasks",
        (sql, "ready_tasks"): "read tasks",
        (sql, "waiting_workflows"): "look at the line",
        (sql, "lock_line"): "look at the line",
        (sql, "write"): "write",
        (of_turn, "_answer"): "decide on reports",
        (of_turn, "claim"): "claim",
        (of_turn, "resolve"): "resolve configurations",
        (of_turn, "_announce"): "doorbells",
        (unit.Unit, "flush"): "gather what is to be written",
    }
    with ExitStack() as stack:
        for (where, attribute), name in parts.items():
            before = getattr(where, attribute, None)
            if before is None:
                continue
            own = attribute in vars(where)
            setattr(where, attribute, clock.timed(name, before))
            stack.callback(
                functools.partial(setattr, where, attribute, before)
                if own
                else functools.partial(delattr, where, attribute)
            )
        yield clock.timed(_TURN, ledger.turn)
