"""Blobs: bytes kept once, by their SHA-256. What nothing refers to any more is collected, never what is just coming.

Whoever keeps bytes first touches the row, then writes what is missing, then refers to it. A collector takes only rows
that nobody touched for `GRACE`, holds the row while it deletes the bytes, and so never meets a writer.
"""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import BinaryIO

from django.db import transaction
from django.db.models import Q, QuerySet, Sum

from apps.core.clock import database_now
from apps.vault.models import Blob
from apps.vault.stores import PIECE, store

GRACE = timedelta(hours=1)  # longer than any upload


Measured = tuple[str, int]
"""SHA-256 as hexadecimal digits, and bytes."""


def keep(source: BinaryIO, measured: Measured | None = None) -> Blob:
    """Keep all that `source` holds; afterwards refer to it within `GRACE`. Raises `OSError`."""
    digest, size = measured or measure(source)
    now = database_now()
    # Committed by itself: from here on no collector takes it.
    Blob.objects.bulk_create(
        [Blob(digest=digest, size=size, touched_at=now)],
        update_conflicts=True, unique_fields=["digest"], update_fields=["touched_at"],
    )  # fmt: skip
    if store().size(digest) != size:
        store().put(digest, source)
    return Blob(digest=digest, size=size, touched_at=now)


def measure(source: BinaryIO) -> Measured:
    """What `source` holds, measured."""
    source.seek(0)
    digest, size = hashlib.sha256(), 0
    while piece := source.read(PIECE):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


def read(digest: str, start: int, length: int) -> Iterator[bytes]:
    """Bytes of a blob, in pieces. Raises `OSError` (`FileNotFoundError` where it is not there)."""
    return store().read(digest, start, length)


def missing(measured: Iterable[Measured]) -> int:
    """How many bytes of these are not among `total` yet."""
    sizes = dict(measured)
    return sum(sizes.values()) - sum(sizes[digest] for digest in Blob.objects.in_bulk(list(sizes)))


def total() -> int:
    """Bytes of all blobs."""
    return int(Blob.objects.aggregate(sum=Sum("size", default=0))["sum"])


def spare(unreferred: Q, now: datetime) -> QuerySet[Blob]:
    """The blobs to collect: `unreferred` says which ones nothing refers to."""
    return Blob.objects.filter(unreferred, touched_at__lt=now - GRACE)


def collect_one(unreferred: Q, now: datetime) -> bool:
    """Collect one of them, with its bytes; whether there was one. Raises `OSError`: then it is still there."""
    with transaction.atomic():
        row = spare(unreferred, now).select_for_update(skip_locked=True).order_by("digest").first()
        if row is None:
            return False
        store().delete(row.digest)
        Blob.objects.filter(pk=row.pk).delete()
    return True
