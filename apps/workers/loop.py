"""A worker: an event loop in which steps run, beside the thread that talks to the database."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol
from uuid import UUID

from django.conf import settings as django
from django.db import Error
from django.utils.module_loading import import_string

from apps.core import bell
from apps.executors import Executors, Sink, StepCall, StepError, StepResult
from apps.executors.types import Stream
from apps.workers import files
from apps.workers.given_secrets import GivenSecrets
from apps.workers.keeper import keepers
from apps.workers.ledger import Ledger, Settings
from apps.workflows.engine.types import Completed, Failed, Progressed, Released, Stopped
from apps.workflows.selectors.performing import executor_options
from apps.workflows.services.ledger import ClaimedTask, LogLine, Report

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 0.5  # how old a log line or a percentage may get before others see it
LISTEN_AGAIN_SECONDS = 2.0
DRAIN_SECONDS = 20.0
MAX_LINE = 16_384  # characters of one log chunk
MAX_MESSAGE = 1000

_CANCEL, _LOST, _DRAIN = "cancel", "lost", "drain"


class Attempted(Protocol):
    """What middleware around an attempt is told at its end."""

    def finish(self, result: StepResult) -> None:
        """The attempt ended so."""


class AttemptMiddleware(Protocol):
    """Wraps each attempt (`settings.ATTEMPT_MIDDLEWARE`): observes, never decides."""

    def __call__(self, call: StepCall, trace_id: str) -> AbstractContextManager[Attempted]:
        """A context around one attempt."""


class Running:
    """One attempt on its way: its asyncio task, and what it wrote since the last report."""

    def __init__(self, claimed: ClaimedTask) -> None:
        self.claimed = claimed
        self.task: asyncio.Task[None] | None = None
        self.stop_reason = ""
        self._lines: list[LogLine] = []
        self._count = 0
        self._percent, self._message = 0.0, ""
        self._moved = False

    def log(self, stream: Stream, text: str) -> None:
        """Sink: append to the log."""
        for start in range(0, len(text), MAX_LINE):
            self._count += 1
            self._lines.append(LogLine(number=self._count, stream=stream, text=text[start : start + MAX_LINE]))

    def progress(self, percent: float, message: str = "") -> None:
        """Sink: how far it is. What is no number between 0 and 100 is brought there."""
        self._percent = min(100.0, max(0.0, float(percent))) if percent == percent else self._percent  # noqa: PLR0124
        self._message = message.replace("\0", "")[:MAX_MESSAGE]
        self._moved = True

    def lines(self) -> tuple[LogLine, ...]:
        """The log lines not yet reported."""
        lines, self._lines = tuple(self._lines), []
        return lines

    def news(self) -> Report | None:
        """What is new since the last report."""
        if not self._moved and not self._lines:
            return None
        self._moved = False
        happening = Progressed(
            step_id=self.claimed.step_id, fence=self.claimed.fence, percent=self._percent, message=self._message
        )
        return Report(task_id=self.claimed.task_id, happening=happening, logs=self.lines())


class Worker:
    """Performs what its ledger claims, until it is told to drain."""

    def __init__(self, settings: Settings) -> None:
        self._ledger = Ledger(
            settings,
            on_claimed=lambda claimed: self._on_loop(self._start, claimed),
            on_stop=lambda cancelled, lost: self._on_loop(self._stop, cancelled, lost),
        )
        self._running: dict[tuple[UUID, int], Running] = {}
        self._executors = Executors(executor_options())
        self._given_secrets = GivenSecrets()
        self._keepers = keepers()
        self._middleware: list[AttemptMiddleware] = [import_string(path) for path in django.ATTEMPT_MIDDLEWARE]
        self._loop: asyncio.AbstractEventLoop
        self._draining = asyncio.Event()

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT, then drain: finish what runs, give back what takes too long."""
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._draining.set)
        self._ledger.start()
        for keeper in self._keepers:
            keeper.start()
        beside = [asyncio.create_task(self._listen()), asyncio.create_task(self._flush())]
        try:
            await self._draining.wait()
            self._ledger.claim_no_more()
            await asyncio.to_thread(self._ledger.claims_no_more.wait, DRAIN_SECONDS)
            await self._finish_or_give_back()
        finally:
            for task in beside:
                task.cancel()
            for keeper in self._keepers:
                keeper.end()
            await self._executors.close()
            await self._given_secrets.close()
            self._ledger.end()
            await asyncio.to_thread(self._ledger.join, DRAIN_SECONDS)

    def drain(self) -> None:
        """Begin to drain, from the loop's own thread."""
        self._draining.set()

    def _on_loop(self, act: Callable[..., None], *values: Any) -> None:
        """Do it on the event loop's thread; called on the ledger's."""
        self._loop.call_soon_threadsafe(act, *values)

    # -- claimed, stopped --------------------------------------------------------------------------------------------

    def _start(self, claimed: Sequence[ClaimedTask]) -> None:
        for task in claimed:
            running = Running(task)
            self._running[task.task_id, task.fence] = running
            running.task = asyncio.create_task(self._perform(running))

    def _stop(self, cancelled: Sequence[UUID], lost: Sequence[UUID]) -> None:
        for ids, reason in ((cancelled, _CANCEL), (lost, _LOST)):
            for running in self._running.values():
                if running.claimed.task_id in ids:
                    self._break_off(running, reason)

    @staticmethod
    def _break_off(running: Running, reason: str) -> None:
        if running.task and not running.stop_reason:
            running.stop_reason = reason
            running.task.cancel()

    async def _listen(self) -> None:
        """Hear the doorbell. Where the database is out of reach yet, the ledger, which polls, is the first to know."""
        told = False
        while True:
            try:
                listener = await asyncio.to_thread(bell.listen, "work")
                break
            except (Error, OSError) as error:
                if not told:
                    logger.warning("no doorbell can be heard, work is polled for: %s", type(error).__name__)
                told = True
                await asyncio.sleep(LISTEN_AGAIN_SECONDS)
        self._loop.add_reader(listener.fileno(), self._heard, listener)
        self._ledger.ring()  # what was rung until now was not heard
        try:
            await self._loop.create_future()
        finally:
            self._loop.remove_reader(listener.fileno())
            listener.close()

    def _heard(self, listener: bell.Listener) -> None:
        before = listener.fileno()
        rings = listener.read()
        if listener.fileno() != before:
            self._loop.remove_reader(before)
            self._loop.add_reader(listener.fileno(), self._heard, listener)
        if rings:
            self._ledger.ring(stop=any(ring.ids for ring in rings))

    # -- performing --------------------------------------------------------------------------------------------------

    async def _perform(self, running: Running) -> None:
        claimed = running.claimed
        step, fence = claimed.step_id, claimed.fence
        happening: Completed | Failed | Stopped | Released
        try:
            result = await self._attempt(running)
        except asyncio.CancelledError:
            if running.stop_reason == _LOST:
                return
            happening = (
                Stopped(step_id=step, fence=fence)
                if running.stop_reason == _CANCEL
                else Released(step_id=step, fence=fence)
            )
        else:
            if result.error:
                happening = Failed(step_id=step, fence=fence, error=_as_data(result.error))
            else:
                happening = Completed(step_id=step, fence=fence, outputs=result.outputs)
        finally:
            self._running.pop((claimed.task_id, fence), None)
        self._ledger.report(Report(task_id=claimed.task_id, happening=happening, logs=running.lines()))

    async def _attempt(self, running: Running) -> StepResult:
        claimed = running.claimed
        task_key = str(claimed.task_id)
        attempt_key = f"{task_key}:{claimed.fence}"
        call = StepCall(
            kind=claimed.kind,
            config=claimed.config,
            stdin=claimed.stdin,
            attempt=claimed.fence,
            task_key=task_key,
            attempt_key=attempt_key,
            workflow_id=claimed.workflow_slug,
            execution_id=str(claimed.execution_id),
            step_id=claimed.step_id,
            artifacts=self._executors.artifacts_of(attempt_key),
        )
        with ExitStack() as stack:
            around = [stack.enter_context(wrap(call, claimed.trace_id)) for wrap in self._middleware]
            try:
                result = await files.left(claimed, call, await self._within_its_time(call, running))
            except asyncio.CancelledError:
                await files.forget(call)
                raise
            for attempted in around:
                attempted.finish(result)
            return result

    async def _within_its_time(self, call: StepCall, running: Running) -> StepResult:
        seconds = running.claimed.timeout_seconds
        try:
            async with asyncio.timeout(seconds) as deadline:
                if running.claimed.secrets:
                    return await self._given_secrets.perform(running.claimed, call, running, self._run)
                return await self._run(call, running)
        except TimeoutError:
            if not deadline.expired():
                raise
            return StepResult(error=StepError(type="timeout", message=f"it ran longer than its {seconds:g} s"))
        except Exception:
            # An executor promises to raise nothing; one that does must not take its step's lease with it.
            logger.exception("the executor of %s steps raised", call.kind)
            return StepResult(error=StepError(type="error", message="the executor failed; see the worker's log"))

    async def _run(self, call: StepCall, sink: Sink) -> StepResult:
        filled = await files.given(call)
        if isinstance(filled, StepError):
            return StepResult(error=filled)
        return await self._executors.get(call.kind).run(filled, sink)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            for running in list(self._running.values()):
                if news := running.news():
                    self._ledger.report(news)

    async def _finish_or_give_back(self) -> None:
        tasks = [running.task for running in self._running.values() if running.task]
        if tasks:
            await asyncio.wait(tasks, timeout=DRAIN_SECONDS)
        left = [running for running in self._running.values() if running.task]
        for running in left:
            self._break_off(running, _DRAIN)
        for running in left:
            with contextlib.suppress(asyncio.CancelledError):
                await running.task  # type: ignore[misc]  # `left` has only those with a task


def _as_data(error: StepError) -> dict[str, Any]:
    data: dict[str, Any] = {"type": error.type, "message": error.message, "retryable": error.retryable}
    if error.exit_code is not None:
        data["exit_code"] = error.exit_code
    if error.retry_after is not None:
        data["retry_after"] = error.retry_after
    return {**data, "exception": error.exception} if error.exception else data
