"""Frames: what is told, encoded once for all who get it, and several of them as one piece of bytes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_BATCH_BYTES = 64 * 1024  # of frames that are written together; a single larger one is written alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A text frame. `ending` is the terminal status it tells of, if any; `last`: nothing follows in this execution.

    `size` is how many bytes it is on the wire. Those are made for the batch that it is sent in: kept here as well, they
    would cost each slow reader as much again.
    """

    text: str
    execution_id: Any = None
    seq: int = 0
    ending: str | None = None
    last: bool = False
    snapshot: bool = False
    size: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        length = len(self.text) if self.text.isascii() else len(self.text.encode())
        object.__setattr__(self, "size", length + (2 if length < 126 else 4 if length < 65536 else 10))

    @property
    def wire(self) -> bytes:
        """The text as an unmasked WebSocket frame (RFC 6455, 5.2), as a server sends it."""
        return _wire(self.text.encode())


class Batch:
    """Frames that follow each other, joined once for all readers that get all of them."""

    __slots__ = ("frames", "size", "wire")

    def __init__(self, frames: Sequence[Frame]) -> None:
        self.frames = frames
        self.wire = frames[0].wire if len(frames) == 1 else b"".join([frame.wire for frame in frames])
        self.size = len(self.wire)


def batches(frames: Iterable[Frame]) -> list[Batch]:
    """The frames in their order, in pieces of at most `MAX_BATCH_BYTES`."""
    found: list[Batch] = []
    piece: list[Frame] = []
    size = 0
    for frame in frames:
        if piece and size + frame.size > MAX_BATCH_BYTES:
            found.append(Batch(piece))
            piece, size = [], 0
        piece.append(frame)
        size += frame.size
    if piece:
        found.append(Batch(piece))
    return found


def _wire(payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        return bytes((0x81, length)) + payload
    if length < 65536:
        return b"\x81\x7e" + length.to_bytes(2, "big") + payload
    return b"\x81\x7f" + length.to_bytes(8, "big") + payload
