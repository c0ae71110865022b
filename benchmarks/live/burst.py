"""The frames that a server by hand is asked to send: as long as an event of the platform, with a mark of the time."""

from collections.abc import Iterator
from time import monotonic

LENGTH = 420  # bytes of an event of a tracker on the wire


def mark() -> str:
    """The present, for a receiver on this host."""
    return f"@{monotonic():.6f}@"


def frames(count: int) -> Iterator[str]:
    """So many texts, each made at the moment it is asked for."""
    for _ in range(count):
        told = mark()
        yield f'{{"type":"event","message":"{told}","fill":"{"x" * (LENGTH - 45 - len(told))}"}}'
