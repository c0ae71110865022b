"""The body of an answer over HTTP: read within a limit as a value, or written to a file as it comes."""

import asyncio
import hashlib
import re
import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from apps.executors.outputs import Unrecordable, clean_text, decode

if TYPE_CHECKING:
    import httpx

PIECE = 1 << 18

_CHARSET = re.compile(
    r"utf-?8|us-ascii|ascii|utf-?16(le|be)?|(iso-?8859|windows|cp)-?\d+(-\d+)?|latin-?1|shift_jis|euc-(jp|kr)|"
    r"gb(2312|k|18030)|big5|koi8-[ru]",
    re.IGNORECASE,
)


class NotTaken(Exception):
    """The answer is longer than the limit, or its file cannot be written: the text tells which."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


def artifact_name(name: str) -> str:
    """`name`, where it names a file below a directory. Raises ValueError."""
    if "\0" in name or len(name) > 255 or any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError("must name a file: report.csv or plots/a.png")
    return name


async def whole(response: "httpx.Response", limit: int) -> bytes:
    """The body. Raises NotTaken, Unrecordable, zlib.error."""
    body = bytearray()
    async with aclosing(_parts(response, limit)) as parts:
        async for part in parts:
            body += part
    return bytes(body)


async def saved(response: "httpx.Response", directory: str, name: str, limit: int) -> dict[str, Any]:
    """Write the body below `directory` as it comes: whole, or not at all. Gives its name, size and SHA-256.

    Raises NotTaken, Unrecordable, zlib.error.
    """
    path = Path(directory, *PurePosixPath(name).parts)
    digest, size, kept = hashlib.sha256(), 0, False
    try:
        for place in (Path(directory).parent, Path(directory), path.parent):
            await asyncio.to_thread(place.mkdir, mode=0o700, parents=True, exist_ok=True)
        with path.open("xb") as file:
            async with aclosing(_parts(response, limit)) as parts:
                async for part in parts:
                    digest.update(part)
                    size += len(part)
                    try:
                        await asyncio.to_thread(file.write, part)
                    except OSError as error:
                        message = f"the response cannot be written: {error.strerror}"
                        raise NotTaken(message, retryable=True) from error
        kept = True
    finally:
        if not kept:
            path.unlink(missing_ok=True)
    return {"name": name, "size": size, "sha256": digest.hexdigest()}


async def _parts(response: "httpx.Response", limit: int) -> AsyncGenerator[bytes, None]:
    """The body as it comes, decompressed in small pieces: a bomb ends at the limit."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    decoder = zlib.decompressobj(47) if encoding in ("gzip", "x-gzip", "deflate") else None
    if decoder is None and encoding not in ("identity", ""):
        raise Unrecordable(f"its content-encoding is {encoding[:50]!r} although identity was asked for")
    left = limit
    async for raw in response.aiter_raw():
        for part in (raw,) if decoder is None else _unpacked(decoder, raw):
            left -= len(part)
            if left < 0:
                raise NotTaken(f"the response is longer than {limit} bytes")
            yield part


def _unpacked(decoder: Any, raw: bytes) -> Iterator[bytes]:
    while raw:
        yield decoder.decompress(raw, PIECE)
        raw = decoder.unconsumed_tail


def content(response: "httpx.Response", body: bytes) -> dict[str, Any]:
    """The body as a value: `json` where it is JSON, else `text`."""
    kind, _, parameters = response.headers.get("content-type", "").partition(";")
    kind = kind.strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return {"json": decode(body.decode("utf-8-sig"))}
        except ValueError:
            pass
    return {"text": clean_text(body.decode(_charset(parameters), "replace"))}


def _charset(parameters: str) -> str:
    for name, value in _pairs(parameters):
        if name == "charset" and _CHARSET.fullmatch(value):
            try:
                b"".decode(value)
            except LookupError:
                break
            return value
    return "utf-8"


def _pairs(parameters: str) -> Iterator[tuple[str, str]]:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        yield name.strip().lower(), value.strip().strip('"')
