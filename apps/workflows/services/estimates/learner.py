"""Another process that judges runs.

One run of a few hundred steps keeps an interpreter busy for a third of a second. In a thread of the worker that would
be a third of a second in which the ledger gets the interpreter's lock only every 5 ms.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from django.conf import settings

from apps.workflows import estimate
from apps.workflows.estimate import Calibration, Run, Shape

END_SECONDS = 2.0


class Learner:
    """`learn` in a process of its own at the lowest priority, started at the first call. For one thread."""

    def __init__(self) -> None:
        self._link: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __call__(
        self, shape: Shape, before: Sequence[Run], ended: Run, calibration: Calibration, *, slots: int
    ) -> Calibration:
        """As `estimate.learn`. Raises EOFError or ConnectionError where the process died; the next call starts one."""
        self._link = self._link or self._started()
        try:
            self._link.send((shape, before, ended, calibration, slots))
            learnt: Calibration = self._link.recv()
        except BaseException:
            self.close()
            raise
        return learnt

    def close(self) -> None:
        """End the process, which sees that nobody asks any more."""
        link, self._link = self._link, None
        process, self._process = self._process, None
        if link:
            link.close()
        if process:
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _started(self) -> Connection:
        ours, theirs = Pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", estimate.__name__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={
                    "PYTHONPATH": str(settings.ROOT),
                    **{name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"},
                },
                process_group=0,  # an interrupt at the terminal is for the worker
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours
