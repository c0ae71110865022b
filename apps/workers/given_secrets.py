"""Performs attempts of steps that are given secrets: opened at the last moment, masked in all that comes back."""

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from django.db import Error, connection

from apps.core.errors import Denied, Unavailable
from apps.executors import Sink, StepCall, StepError, StepResult
from apps.executors.logs import NOTICE_BEGINS
from apps.executors.types import Stream
from apps.vault.masking import Masking
from apps.vault.masking import Stream as MaskedStream
from apps.workflows.engine.expressions import ExpressionError, render
from apps.workflows.services import secrets
from apps.workflows.services.ledger import ClaimedTask

logger = logging.getLogger(__name__)

Perform = Callable[[StepCall, Sink], Awaitable[StepResult]]


class MaskedSink:
    """A sink before the sink: secrets are masked in what goes through, also when they are split over two writes."""

    def __init__(self, masking: Masking, sink: Sink) -> None:
        self._masking, self._sink = masking, sink
        self._streams: dict[Stream, MaskedStream] = {}

    def log(self, stream: Stream, text: str) -> None:
        """Append to the log what may be shown by now."""
        if text.startswith(NOTICE_BEGINS):
            self._end(stream)  # what came before it was cut there
        masked = self._streams.get(stream)
        if masked is None:
            masked = self._streams[stream] = MaskedStream(self._masking)
        if shown := masked.feed(text):
            self._sink.log(stream, shown)

    def progress(self, percent: float, message: str = "") -> None:
        """Say how far it is."""
        self._sink.progress(percent, self._masking.text(message))

    def close(self) -> None:
        """The step has ended: what was held back is shown or masked."""
        for stream in list(self._streams):
            self._end(stream)

    def _end(self, stream: Stream) -> None:
        masked = self._streams.pop(stream, None)
        if masked is not None and (rest := masked.close()):
            self._sink.log(stream, rest)


class GivenSecrets:
    """One a worker. Its one thread, started with the first such step, reads secrets from the database."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None

    async def perform(self, claimed: ClaimedTask, call: StepCall, sink: Sink, run: Perform) -> StepResult:
        """Perform an attempt by `run`, given its secrets. Raises `asyncio.CancelledError` alone."""
        values = await self._values(claimed)
        if isinstance(values, StepError):
            return StepResult(error=values)
        masking = Masking(values.values())
        masked = MaskedSink(masking, sink)
        try:
            assert claimed.context is not None  # noqa: S101 (the ledger gives it with the names of secrets)
            config = render(claimed.config, replace(claimed.context, secrets=values.__getitem__))
            return _masked(await run(replace(call, config=config), masked), masking)
        except ExpressionError as wrong:
            return StepResult(error=StepError(type="invalid", message=masking.text(str(wrong)), retryable=False))
        except Exception:
            # Not by `exception`: the last line of a traceback may say a secret.
            told = masking.text(traceback.format_exc())
            logger.error("the executor of %s steps raised: %s", call.kind, told)  # noqa: TRY400
            return StepResult(error=StepError(type="error", message="the executor failed; see the worker's log"))
        finally:
            masked.close()

    async def close(self) -> None:
        """End the thread and its connection."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.wrap_future(thread.submit(_end_connection))
            thread.shutdown()

    async def _values(self, claimed: ClaimedTask) -> Mapping[str, str] | StepError:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="secrets")
        try:
            return await asyncio.wrap_future(self._thread.submit(_reveal, claimed))
        except Denied as refusal:
            return StepError(type="refused", message=refusal.detail, retryable=False)
        except Unavailable as failure:
            return StepError(type="unavailable", message=failure.detail)
        except Error as failure:
            return StepError(type="unavailable", message=f"its secrets could not be read: {type(failure).__name__}")


def _reveal(claimed: ClaimedTask) -> Mapping[str, str]:
    try:
        return secrets.reveal(claimed.execution_id, claimed.secrets)
    except Error:
        connection.close()  # the next step gets a new one
        raise


def _end_connection() -> None:
    connection.close()  # this thread's own


def _masked(result: StepResult, masking: Masking) -> StepResult:
    error = result.error
    if error is not None:
        error = replace(error, message=masking.text(error.message), exception=masking.text(error.exception))
    outputs: Any = masking.value(result.outputs)
    return replace(result, outputs=outputs, error=error)
