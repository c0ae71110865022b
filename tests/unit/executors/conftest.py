"""Executors with a team's module, a sink that remembers, and the short way to run a `python` step."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from apps.executors import Executors, Options, StepCall, StepResult

TEAM = Path(__file__).parent / "team"
PATIENCE = 60.0  # seconds; far above what anything here takes on a busy machine


@dataclass
class Remembered:
    """A sink that keeps what it is told."""

    logs: list[tuple[str, str]] = field(default_factory=list)
    reports: list[tuple[float, str]] = field(default_factory=list)

    def log(self, stream, text):
        self.logs.append((stream, text))

    def progress(self, percent, message=""):
        self.reports.append((percent, message))

    def text(self, stream=None) -> str:
        return "".join(text for name, text in self.logs if stream in (None, name))


@pytest.fixture
def sink() -> Remembered:
    return Remembered()


@pytest.fixture
def options(tmp_path, monkeypatch) -> Options:
    """With the modules beside these tests, one of which cannot be imported."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(TEAM)])
    return Options(
        process_steps="trusted",
        callable_modules=("crew_reports", "crew_broken", "crew_missing"),
        work_dir=tmp_path,
        max_log_bytes=100_000,
        max_output_bytes=10_000,
        children=2,
    )


@pytest.fixture
async def executors(options) -> AsyncIterator[Executors]:
    made = Executors(options)
    yield made
    await made.close()


@pytest.fixture
def run(executors, sink) -> Callable[..., Awaitable[StepResult]]:
    """`await run("builtin.echo", a=1)`."""

    async def perform(name: str, *, attempt: int = 1, **given: Any) -> StepResult:
        return await executors.get("python").run(step_call(name, given, attempt=attempt), sink)

    return perform


def step_call(name: str, given: dict[str, Any], *, attempt: int = 1) -> StepCall:
    return StepCall(
        kind="python",
        config={"call": name, "with": given},
        attempt=attempt,
        task_key="task",
        attempt_key=f"task:{attempt}",
        workflow_id="daily",
        execution_id="run-1",
        step_id="sum-up",
    )
