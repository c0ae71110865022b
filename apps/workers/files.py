"""What attempts leave as files becomes artifacts; outputs that are too large are spilled there, and read from there.

An attempt that leaves no file, returns little and is given no reference costs a look at the disk and nothing more.
"""

import asyncio
import json
import logging
import mimetypes
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, connection

from apps.core.errors import PlatformError, TooLarge
from apps.executors import StepCall, StepError, StepResult
from apps.executors.guard import remove
from apps.executors.outputs import clean_text
from apps.executors.types import MOST_FILES
from apps.vault import blobs
from apps.workflows.services import artifacts
from apps.workflows.services.ledger import ClaimedTask

logger = logging.getLogger(__name__)

SMALLEST_SPILLED = 1024  # bytes: a reference is not much smaller than less
NEARLY_NOTHING = 200  # values in outputs that are small without being written out
_REFERENCE = frozenset({"spilled_to", "size", "content_type"})
_MARK = b'"spilled_to"'


async def given(call: StepCall) -> StepCall | StepError:
    """The call with every reference to a spilled output replaced by its value; or why that cannot be."""
    if _MARK not in call.stdin and not _refers(call.config):
        return call
    return await asyncio.to_thread(_connected, _given, call)


async def left(claimed: ClaimedTask, call: StepCall, result: StepResult) -> StepResult:
    """The result, once the files of the attempt are kept and its outputs are small enough for a row."""
    there = result.left_files and os.path.isdir(call.artifacts)  # noqa: PTH112 (twice as fast, for every step)
    if not there and _is_small(result.outputs, settings.ENV.OUTPUT_INLINE_BYTES):
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


def _refers(config: Any) -> bool:
    pending = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if value.keys() == _REFERENCE:
                return True
            pending += value.values()
        elif isinstance(value, list | tuple):
            pending += value
    return False


def _given(call: StepCall) -> StepCall | StepError:
    execution, left = UUID(call.execution_id), settings.ENV.OUTPUT_MAX_BYTES

    def filled(value: Any) -> Any:
        nonlocal left
        if isinstance(value, Mapping):
            if value.keys() == _REFERENCE:
                left -= value["size"] if isinstance(value["size"], int) else 0
                if left < 0:
                    raise PlatformError(f"it is given more than {settings.ENV.OUTPUT_MAX_BYTES:,} bytes of outputs")
                return _value(execution, value)
            return {key: filled(inner) for key, inner in value.items()}
        return [filled(inner) for inner in value] if isinstance(value, list | tuple) else value

    try:
        stdin = call.stdin
        if _MARK in stdin:
            piped = filled(json.loads(stdin))
            stdin = (piped if isinstance(piped, str) else json.dumps(piped, ensure_ascii=False)).encode()
        return replace(call, config=filled(call.config), stdin=stdin)
    except PlatformError as error:
        return StepError(type="invalid", message=error.detail, retryable=False)
    except (OSError, DatabaseError) as error:
        # Not `unavailable`: what performs the step is there, and no breaker of it is to open.
        return StepError(type="error", message=f"an output that was spilled cannot be read: {error}")


def _value(execution: UUID, reference: Mapping[str, Any]) -> Any:
    row = artifacts.spilled(execution, str(reference["spilled_to"]))
    if row is None:
        raise PlatformError("an output that was spilled is not there any more: its execution was deleted")
    text = b"".join(blobs.read(row.blob_id, 0, row.size)).decode()
    return json.loads(text) if row.content_type == "application/json" else text


# --- what an attempt leaves ------------------------------------------------------------------------------------------


def _left(claimed: ClaimedTask, call: StepCall, result: StepResult) -> StepResult:
    directory = Path(call.artifacts)
    try:
        with ExitStack() as stack:
            named = []
            for file in _files(directory) if directory.is_dir() else ():
                stack.callback(file.source.close)
                named.append(file)
            outputs, spilled = _spill(result.outputs, settings.ENV.OUTPUT_INLINE_BYTES)
            if named or spilled:
                artifacts.keep(claimed.execution_id, claimed.task_id, claimed.fence, [*named, *spilled])
        return replace(result, outputs=outputs)
    except PlatformError as error:
        failure = StepError(type="output", message=error.detail, retryable=False)
    except (OSError, DatabaseError) as error:
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


def _spill(outputs: Mapping[str, Any], inline: int) -> tuple[Mapping[str, Any], list[artifacts.Left]]:
    """Outputs that take at most `inline` bytes as JSON, and what had to go for that: the largest values first."""
    if _is_small(outputs, inline):
        return outputs, []
    written = {key: json.dumps(value, ensure_ascii=False, separators=(",", ":")) for key, value in outputs.items()}
    sizes = {key: len(text.encode()) for key, text in written.items()}
    total = sum(len(json.dumps(key)) + size + 2 for key, size in sizes.items())
    small, spilled = dict(outputs), []
    for key in sorted(sizes, key=lambda key: -sizes[key]):
        if total <= inline or sizes[key] < SMALLEST_SPILLED:
            break
        is_text = isinstance(outputs[key], str)
        source = BytesIO((outputs[key] if is_text else written[key]).encode())
        digest, size = blobs.measure(source)
        kind = "text/plain; charset=utf-8" if is_text else "application/json"
        name = f"outputs/{clean_text(key)[:200].replace('/', '_')}.{'txt' if is_text else 'json'}"
        spilled.append(artifacts.Left(name=name, source=source, size=size, content_type=kind, spilled=True))
        small[key] = {"spilled_to": digest, "size": size, "content_type": kind}
        total -= sizes[key] - len(json.dumps(small[key]))
    if total > inline:
        raise TooLarge(f"its outputs are {total:,} bytes in many small values: return fewer, or leave a file")
    return small, spilled


def _is_small(outputs: Any, limit: int) -> bool:
    """Whether `outputs` are within `limit` bytes as JSON; of few and short values it is known without writing them."""
    values, characters, pending = 0, 0, [outputs]
    while pending:
        value = pending.pop()
        values += 1
        if isinstance(value, str):
            characters += len(value)
        elif isinstance(value, Mapping):
            pending += value.values()
            characters += sum(map(len, value))
        elif isinstance(value, list | tuple):
            pending += value
        if values + len(pending) > NEARLY_NOTHING or 6 * characters > limit:
            return len(json.dumps(outputs, ensure_ascii=False, separators=(",", ":")).encode()) <= limit
    return True
