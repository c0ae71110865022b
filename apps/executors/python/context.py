"""What a callable with a parameter named `context` is given. Imported by child processes: nothing heavy here."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path


class Context:
    """Which attempt of which step this is, and the ways to report from it.

    `attempt` counts from 1. `task_key` is the same for every attempt, `attempt_key` differs: pass either on as an
    idempotency key.
    """

    __slots__ = (
        "_artifacts",
        "_last",
        "_log",
        "_progress",
        "attempt",
        "attempt_key",
        "execution_id",
        "step_id",
        "task_key",
        "workflow_id",
    )

    def __init__(
        self,
        identity: Mapping[str, str],
        *,
        attempt: int,
        log: Callable[[str], None],
        progress: Callable[[float, str], None],
    ) -> None:
        self.attempt = attempt
        self.task_key = identity["task_key"]
        self.attempt_key = identity["attempt_key"]
        self.workflow_id = identity["workflow_id"]
        self.execution_id = identity["execution_id"]
        self.step_id = identity["step_id"]
        self._artifacts = identity["artifacts"]
        self._log = log
        self._progress = progress
        self._last = (0.0, "")

    def progress(self, percent: float, message: str = "") -> None:
        """Say how far the step is, 0 to 100; a value outside is held at the edge. Raises TypeError or ValueError."""
        self._last = (float(percent), str(message))
        self._progress(*self._last)

    def heartbeat(self, message: str = "") -> None:
        """Say that it goes on, with a message or the one before, at the percentage it has said last.

        For people who watch: its lease is kept by the worker whatever it does.
        """
        percent, before = self._last
        self.progress(percent, message or before)

    def artifact(self, name: str, content: bytes | str | None = None) -> Path:
        """Leave a file: `content`, or what is written into the path that this gives, until the callable returns.

        `name` may have directories (`plots/a.png`). Raises ValueError for one that leads elsewhere, OSError.
        """
        parts = name.split("/")
        if not self._artifacts or "\0" in name or len(name) > 255 or any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"{name!r} is no name of an artifact: give `report.csv` or `plots/a.png`")
        path = Path(self._artifacts, *parts)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if content is not None:
            data = content.encode() if isinstance(content, str) else content
            with open(os.fspath(path), "wb") as file:  # noqa: PTH123
                file.write(data)
        return path

    def log(self, text: str) -> None:
        """Append a line to the step's log."""
        line = str(text)
        self._log(line if line.endswith("\n") else line + "\n")


IDENTITY = ("task_key", "attempt_key", "workflow_id", "execution_id", "step_id", "artifacts")
"""The text fields that a context takes from a `StepCall`, under the same names."""
