"""What attempts leave as files becomes artifacts; outputs that are too large are spilled there, and read from there.

An attempt that leaves no file, returns little and is given no reference costs a look at the disk and nothing more.
"""

import asyncio
import json
import logging
import mimetypes
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import Error, connection

from apps.core.errors import PlatformError
from apps.executors import StepCall, StepError, StepResult
from apps.executors.guard import remove
from apps.executors.outputs import clean_text
from apps.executors.types import MOST_FILES
from apps.workflows.services import artifacts, spilling
from apps.workflows.services.ledger import ClaimedTask

logger = logging.getLogger(__name__)


async def given(call: StepCall) -> StepCall | StepError:
    """The call with every reference to a spilled output replaced by its value; or why that cannot be."""
    if spilling.MARK not in call.stdin and not spilling.refers(call.config):
        return call
    return await asyncio.to_thread(_connected, _given, call)


async def left(claimed: ClaimedTask, call: StepCall, result: StepResult) -> StepResult:
    """The result, once the files of the attempt are kept and its outputs are small enough for a row."""
    there = result.left_files and os.path.isdir(call.artifacts)  # noqa: PTH112 (twice as fast, for every step)
    if not there and spilling.is_small(result.outputs, settings.ENV.OUTPUT_INLINE_BYTES):
        return result
    return await asyncio.to_thread(_connected, _left, claimed, call, result)


async def forget(call: StepCall) -> None:
    """Nobody asks for the files of this attempt any more."""
    if os.path.isdir(call.artifacts):  # noqa: PTH112
        await asyncio.to_thread(remove, Path(call.artifacts))


def _connected(act: Any, *values: Any) -> Any:
    """With a database connection of this thread's own, for as long as it takes."""
    try:
        return act(*values)
    finally:
        connection.close()


# --- what an attempt is given ----------------------------------------------------------------------------------------


def _given(call: StepCall) -> StepCall | StepError:
    filling = spilling.Filling(UUID(call.execution_id), settings.ENV.OUTPUT_MAX_BYTES)
    try:
        stdin = call.stdin
        if spilling.MARK in stdin:
            piped = filling.filled(json.loads(stdin))
            stdin = (piped if isinstance(piped, str) else json.dumps(piped, ensure_ascii=False)).encode()
        return replace(call, config=filling.filled(call.config), stdin=stdin)
    except PlatformError as error:
        return StepError(type="invalid", message=error.detail, retryable=False)
    except (OSError, Error) as error:
        # Not `unavailable`: what performs the step is there, and no breaker of it is to open.
        return StepError(type="error", message=f"an output that was spilled cannot be read: {error}")


# --- what an attempt leaves ------------------------------------------------------------------------------------------


def _left(claimed: ClaimedTask, call: StepCall, result: StepResult) -> StepResult:
    directory = Path(call.artifacts)
    try:
        with ExitStack() as stack:
            named = []
            for file in _files(directory) if directory.is_dir() else ():
                stack.callback(file.source.close)
                named.append(file)
            outputs, spilled = spilling.spill(result.outputs, settings.ENV.OUTPUT_INLINE_BYTES)
            if named or spilled:
                artifacts.keep(claimed.execution_id, claimed.task_id, claimed.fence, [*named, *spilled])
        return replace(result, outputs=outputs)
    except PlatformError as error:
        failure = StepError(type="output", message=error.detail, retryable=False)
    except (OSError, Error) as error:
        logger.warning("artifacts of %s could not be kept: %s", call.attempt_key, error)
        failure = StepError(type="output", message=f"its artifacts could not be kept: {error}")
    finally:
        if directory.is_dir():
            remove(directory)
    return result if result.error else StepResult(error=failure)


def _files(directory: Path) -> Iterator[artifacts.Left]:
    for path in artifacts.files_in(directory, MOST_FILES):
        # Whatever stands there by now: no link is followed, and nothing waited for.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
        name = os.fsencode(path.relative_to(directory)).decode("utf-8", "replace")
        yield artifacts.Left(
            name=clean_text(name)[-255:], source=file, size=os.fstat(file.fileno()).st_size,
            content_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
        )  # fmt: skip
