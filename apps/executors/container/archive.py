"""Files that a container leaves, carried as an archive: so the engine may be on another host, and the user any."""

import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, cast

from apps.executors.container.config import ARTIFACTS
from apps.executors.container.work import NotPerformed
from apps.executors.types import MOST_FILES

PIECE = 1 << 18


def empty() -> bytes:
    """An archive for the root of a container, with the directory `ARTIFACTS`, which every user of it may write.

    It ends with its end mark, two blocks of zeros, and without the padding to a whole record that is usual: the process
    to which Podman hands it reads no further than the mark, and where it has ended before the padding comes, Podman
    answers "broken pipe" to an archive that is unpacked.
    """
    written = BytesIO()
    with tarfile.open(fileobj=written, mode="w") as made:
        places = PurePosixPath(ARTIFACTS.lstrip("/"))
        for place in (*reversed(places.parents[:-1]), places):
            entry = tarfile.TarInfo(str(place))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777 if place == places else 0o755
            made.addfile(entry)
        end = made.offset
    return written.getvalue()[: end + 2 * tarfile.BLOCKSIZE]


def unpacked(pieces: Iterator[bytes], directory: Path, *, most_bytes: int) -> int:
    """Write the regular files of an archive of `ARTIFACTS` below `directory`, which is made for the first one.

    Gives how many. Links and devices are left out. Raises NotPerformed for more than `most_bytes` or `MOST_FILES`,
    OSError where they cannot be written.
    """
    count, room = 0, most_bytes
    with tarfile.open(fileobj=cast("IO[bytes]", _Read(pieces)), mode="r|") as found:
        for entry in found:
            parts = PurePosixPath(entry.name).parts[1:]  # the first is the directory itself
            if not entry.isfile() or not parts or ".." in parts:
                continue
            count, room = count + 1, room - entry.size
            if count > MOST_FILES:
                raise NotPerformed("output", f"an attempt may leave {MOST_FILES:,} files", retryable=False)
            if room < 0:
                message = f"it left more than {most_bytes:,} bytes in {ARTIFACTS} (ARTIFACT_EXECUTION_BYTES)"
                raise NotPerformed("output", message, retryable=False)
            directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.mkdir(mode=0o700, exist_ok=True)
            path = directory.joinpath(*parts)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                _copy(cast("IO[bytes]", found.extractfile(entry)), path)
            except BaseException:
                path.unlink(missing_ok=True)  # half a file is none
                raise
    return count


def _copy(source: IO[bytes], path: Path) -> None:
    with path.open("xb") as file:
        while piece := source.read(PIECE):
            file.write(piece)


class _Read:
    """A file to be read, of pieces that come."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, but for the end."""
        parts, there = [self._held], len(self._held)
        while there < size and (piece := next(self._pieces, b"")):
            parts.append(piece)
            there += len(piece)
        data = b"".join(parts)
        self._held = data[size:]
        return data[:size]
