"""Where blobs lie: a directory, or S3-compatible storage through django-storages. A blob's name is its SHA-256."""

import os
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from django.conf import settings

PIECE = 1 << 18  # bytes read at a time


class Store(Protocol):
    """Blobs by digest. Every call may take long and raises `OSError` where the storage fails."""

    def size(self, digest: str) -> int | None:
        """Bytes of a blob that is there whole; None where there is none."""

    def put(self, digest: str, source: BinaryIO) -> None:
        """Keep what `source` holds from its beginning: afterwards it is there whole, or not at all."""

    def read(self, digest: str, start: int, length: int) -> Iterator[bytes]:
        """`length` bytes from `start` on. Raises `FileNotFoundError`."""

    def delete(self, digest: str) -> None:
        """Remove it; nothing happens where it is not there."""


class Directory:
    """Files named by their digests, in 256 directories; each is written under another name and then renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _path(self, digest: str) -> Path:
        return self._root / digest[:2] / digest

    def size(self, digest: str) -> int | None:
        """As the protocol says."""
        try:
            return self._path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def put(self, digest: str, source: BinaryIO) -> None:
        """As the protocol says; on disk when it returns."""
        path = self._path(digest)
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                source.seek(0)
                while piece := source.read(PIECE):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def read(self, digest: str, start: int, length: int) -> Iterator[bytes]:
        """As the protocol says."""
        file = self._path(digest).open("rb")
        return _pieces(file, start, length)

    def delete(self, digest: str) -> None:
        """As the protocol says."""
        self._path(digest).unlink(missing_ok=True)


class Bucket:
    """Objects of an S3-compatible bucket. Credentials are the URL's, else what boto3 finds (`AWS_ACCESS_KEY_ID`, …)."""

    def __init__(self, url: str) -> None:
        from storages.backends.s3 import S3Storage  # boto3 takes long to import

        parts, given = urlsplit(url), parse_qs(urlsplit(url).query)
        storage: Any = S3Storage
        self._storage = storage(
            bucket_name=parts.hostname,
            access_key=unquote(parts.username) if parts.username else None,
            secret_key=unquote(parts.password) if parts.password else None,
            endpoint_url=given.get("endpoint", [None])[0],
            region_name=given.get("region", [None])[0],
            addressing_style="path" if "endpoint" in given else None,
            file_overwrite=True,
            default_acl=None,
        )
        self._prefix = parts.path.strip("/")

    def _object(self, digest: str) -> Any:
        name = f"{self._prefix}/{digest}" if self._prefix else digest
        return self._storage.bucket.Object(name)

    def size(self, digest: str) -> int | None:
        """As the protocol says."""
        with _as_os_error():
            try:
                return int(self._object(digest).content_length)
            except _client_error() as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return None
                raise

    def put(self, digest: str, source: BinaryIO) -> None:
        """As the protocol says: an object appears when it is whole."""
        source.seek(0)
        with _as_os_error():
            self._object(digest).upload_fileobj(_Unclosed(source))

    def read(self, digest: str, start: int, length: int) -> Iterator[bytes]:
        """As the protocol says: asked for by range."""
        if length <= 0:
            return iter(())
        with _as_os_error():
            try:
                answer = self._object(digest).get(Range=f"bytes={start}-{start + length - 1}")
            except _client_error() as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    raise FileNotFoundError(digest) from None
                raise
        chunks: Iterator[bytes] = answer["Body"].iter_chunks(PIECE)
        return chunks

    def delete(self, digest: str) -> None:
        """As the protocol says."""
        with _as_os_error():
            self._object(digest).delete()


class _Unclosed:
    """boto3 closes what it has uploaded; this is still needed."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        return self._source.read(size)


class _as_os_error:
    """What boto3 raises is an `OSError` outside."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        if isinstance(error, Boto3Error | BotoCoreError | ClientError):
            raise OSError(f"the object storage does not do it: {type(error).__name__}") from None


def _client_error() -> Any:
    from botocore.exceptions import ClientError

    return ClientError


def _pieces(file: BinaryIO, start: int, length: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while length > 0 and (piece := file.read(min(PIECE, length))):
            length -= len(piece)
            yield piece


def store() -> Store:
    """The store of this installation (`ARTIFACT_STORAGE_URL`)."""
    return _store(settings.ENV.ARTIFACT_STORAGE_URL, settings.DATA_DIR)


@lru_cache(maxsize=4)
def _store(url: str, data_dir: Path) -> Store:
    if url.startswith("s3://"):
        return Bucket(url)
    return Directory(Path(urlsplit(url).path) if url else data_dir / "artifacts")
