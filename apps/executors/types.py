"""What an executor is given and what it gives back.

An executor performs one attempt of one step. It knows no database and no setting of the server beyond
`apps.executors.options`; its only way back is the result and the sink. Deadline and cancel reach it the same way:
its coroutine is cancelled, and it must leave nothing running behind.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic import BaseModel

Stream = Literal["stdout", "stderr"]

MOST_FILES = 1000
"""How many files one attempt may leave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCall:
    """One attempt of one step, with every `${…}` already replaced by its value.

    `config` is what the executor's `Config` schema describes. `stdin` is what the step's dependencies left for it.
    `task_key` is the same for every attempt of a task, `attempt_key` differs: pass either on as an idempotency key.
    `attempt` counts from 1. What lies in the directory `artifacts` when the attempt ends becomes its artifacts. It is
    not there yet: who has something to put into it makes it (mode 700), and the worker takes it away.
    """

    kind: str
    config: Mapping[str, Any]
    stdin: bytes = b""
    attempt: int
    task_key: str
    attempt_key: str
    workflow_id: str
    execution_id: str
    step_id: str
    artifacts: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepError:
    """Why an attempt failed. `type` is from a short closed list (it becomes a metric's label), `message` is free.

    Types: `error` (a callable raised), `exit_code`, `timeout`, `oom`, `http_status`, `connection`, `refused`
    (the platform's own rules forbid it), `unavailable` (what performs it is not there), `invalid` (its
    configuration, once resolved, makes no sense), `output` (the result cannot be recorded), `lost` (its performer
    died), `cancelled`. `exception` is the class of what a callable raised. A retry comes no sooner than after
    `retry_after` seconds.
    """

    type: str
    message: str
    retryable: bool = True
    exit_code: int | None = None
    exception: str = ""
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """The outcome of one attempt: completed with `outputs` (a JSON object), or failed with `error`.

    `left_files` is false where the attempt cannot have made its directory of artifacts, so that nobody need look.
    """

    outputs: Mapping[str, Any] = field(default_factory=dict)
    error: StepError | None = None
    left_files: bool = True


class Sink(Protocol):
    """Where a running step reports. Both calls return at once and may be made from the event loop's thread only."""

    def log(self, stream: Stream, text: str) -> None:
        """Append `text` (any length, not nec. whole lines) to the step's log."""

    def progress(self, percent: float, message: str = "") -> None:
        """Say how far the step is, 0 to 100."""


class Executor(Protocol):
    """How steps of one kind are performed."""

    kind: str
    Config: type[BaseModel]

    async def run(self, call: StepCall, sink: Sink) -> StepResult:
        """Perform one attempt. Raises nothing but `asyncio.CancelledError`: every failure is a `StepResult`."""

    async def close(self) -> None:
        """Let go of what is kept between attempts (child processes, connections)."""
