"""What a step of a chain costs around the ledger: with an event loop and executors, a server, a second worker.

The same chain each time, in arrangements that hold more and more of an installation. The ledger alone is `hot_path`'s.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.executing import made, seconds_of
from benchmarks.host import ROOT, running
from benchmarks.shapes import SINGLE, Sizes, definition


@contextlib.contextmanager
def _only_a_worker() -> Iterator[None]:
    with (Path(os.environ["DATA_DIR"]) / "worker.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), "worker"], cwd=ROOT, stdout=output, stderr=output
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)


def measure(sizes: Sizes, *, repeat: int) -> dict[str, list[float]]:
    """By arrangement, microseconds a step of each run."""
    arrangements: Mapping[str, AbstractContextManager[object]] = {
        "one worker: event loop and executor": _only_a_worker(),
        "a server beside it": running(1),
        "a second worker": running(2),
    }
    found = {}
    for name, arrangement in arrangements.items():
        with arrangement:
            seconds_of(made(SINGLE))
            workflow = made(definition("chain", sizes))
            seconds_of(workflow)  # the first pays for what is compiled and prepared once
            found[name] = [1e6 * seconds_of(workflow) / sizes.steps("chain") for _ in range(repeat)]
    return found
