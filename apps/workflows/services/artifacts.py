"""Artifacts: kept under the lease of the attempt that left them, within quotas; found again; collected.

A large output is spilled: in its place the outputs hold a reference (`{"spilled_to": SHA-256, "size",
"content_type"}`), and a step that is given one gets the value itself.
"""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, Sum

from apps.core.clock import database_now
from apps.core.errors import Conflict, Full, TooLarge
from apps.core.retention import Rule
from apps.vault import blobs
from apps.vault.models import Blob
from apps.workflows.engine.ids import step_of
from apps.workflows.engine.states import Status
from apps.workflows.models import Artifact, Execution, Task

MOST_ABOVE = 20  # executions that a chain of sub-workflows is followed up


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A file that an attempt left: its name within the attempt, and where it can be read until it is kept."""

    name: str
    source: BinaryIO
    size: int
    content_type: str
    spilled: bool = False


def keep(execution: UUID, task: UUID, fence: int, left: Sequence[Left]) -> list[Artifact]:
    """Keep these files for an attempt, all or none.

    A spilled output that was kept before is left out: its report is being repeated. One whose name is taken, by another
    key's or by a file of the attempt's own, gets another: references go by what it holds.

    Raises `TooLarge` (the quota of an execution), `Full` (that of the installation, or the disk's end), `Conflict`
    ("stale_attempt") where the lease is no longer the task's, `OSError` where the storage fails.
    """
    left = _new_ones(task, fence, left)
    if not left:
        return []
    size = sum(file.size for file in left)
    _within_quota(execution, size)
    try:
        measured = [blobs.measure(file.source) for file in left]
        added = blobs.missing(measured)
        _within_all(added)
        rows = [(file, blobs.keep(file.source, one)) for file, one in zip(left, measured, strict=True)]
    except OSError as error:
        raise _told(error) from error
    with transaction.atomic():
        # An execution, then its tasks: as everywhere.
        Execution.objects.select_for_update().only("pk").get(pk=execution)
        held = Task.objects.filter(pk=task, execution_id=execution, fence=fence, status=Status.IN_PROGRESS)
        if not held.exists():
            raise Conflict(f"attempt {fence} no longer holds its lease", code="stale_attempt")
        _within_quota(execution, size)
        if added:
            _within_all(0)  # by now they are among all
        now = database_now()
        taken = set(Artifact.objects.filter(task=task, fence=fence).values_list("name", flat=True))
        return Artifact.objects.bulk_create(
            Artifact(
                execution_id=execution, task_id=task, fence=fence, name=_name_of(file, blob, taken),
                content_type=file.content_type, size=blob.size, spilled=file.spilled, blob_id=blob.digest,
                created_at=now,
            )
            for file, blob in rows
        )  # fmt: skip


def _new_ones(task: UUID, fence: int, left: Sequence[Left]) -> Sequence[Left]:
    if not any(file.spilled for file in left):
        return left
    before = Artifact.objects.filter(task=task, fence=fence, spilled=True)
    kept = set(before.values_list("blob_id", flat=True))
    return [file for file in left if not (file.spilled and kept and blobs.measure(file.source)[0] in kept)]


def _name_of(file: Left, blob: Blob, taken: set[str]) -> str:
    name = file.name
    if file.spilled and name in taken:
        stem, _, suffix = name.rpartition(".")
        name = f"{stem[:180]}.{blob.digest}.{suffix}"
    taken.add(name)
    return name


def _within_quota(execution: UUID, size: int) -> None:
    used = int(Artifact.objects.filter(execution=execution).aggregate(sum=Sum("size", default=0))["sum"])
    limit = settings.ENV.ARTIFACT_EXECUTION_BYTES
    if used + size > limit:
        raise TooLarge(
            f"the artifacts of an execution may have {limit:,} bytes (ARTIFACT_EXECUTION_BYTES); it has {used:,} and "
            f"this adds {size:,}",
            code="artifacts_too_large",
        )


def _within_all(added: int) -> None:
    whole = settings.ENV.ARTIFACT_TOTAL_BYTES
    if whole and blobs.total() + added > whole:
        raise Full(
            f"all artifacts together may have {whole:,} bytes (ARTIFACT_TOTAL_BYTES): delete executions, shorten "
            "RETENTION_DAYS, or raise it",
            code="artifact_storage_full",
        )


def _told(error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Full("the disk of the artifacts is full: make room, and retry", code="disk_full")
    return error


# --- spilled outputs --------------------------------------------------------------------------------------------------


def spilled(execution: UUID, digest: str) -> Artifact | None:
    """The artifact that a reference within this execution stands for.

    Its own, one of another execution of its workflow (of which its results were used again), or one of an execution
    that has a workflow in common with it among those that it is a step of.
    """
    near = {workflow for _, workflow in _chain(execution)}
    rows = Artifact.objects.filter(blob_id=digest, spilled=True).select_related("execution")
    own = rows.filter(execution__workflow_id__in=near).first()
    if own is not None:
        return own
    for row in rows.order_by("-id")[:100]:
        if near & {workflow for _, workflow in _chain(row.execution_id)}:
            return row
    return None


def _chain(execution: UUID) -> Iterator[tuple[UUID, UUID]]:
    """An execution and those that it is a step of, each with its workflow."""
    key = execution
    for _ in range(MOST_ABOVE):
        row = Execution.objects.filter(pk=key).values_list("pk", "workflow_id", "parent_task__execution_id").first()
        if row is None:
            return
        yield row[0], row[1]
        if row[2] is None:
            return
        key = row[2]


def inherit(origin: Execution, execution: Execution) -> None:
    """A new execution uses results of `origin` again: what they refer to is kept as long as it is itself."""
    rows = list(Artifact.objects.filter(execution=origin, spilled=True).select_related("task"))
    if not rows:
        return
    new, now = dict(Task.objects.filter(execution=execution).values_list("step_id", "pk")), database_now()
    Artifact.objects.bulk_create(
        Artifact(
            execution=execution, task_id=new.get(row.task.step_id) or new[step_of(row.task.step_id)], fence=0,
            name=f"{row.task.step_id}/{row.name}"[-255:], size=row.size, content_type=row.content_type, spilled=True,
            blob_id=row.blob_id, created_at=now,
        )
        for row in rows
    )  # fmt: skip


# --- the end ----------------------------------------------------------------------------------------------------------

_UNREFERRED = Q(~Exists(Artifact.objects.filter(blob=OuterRef("pk"))))


def _count(now: datetime) -> Mapping[str, int]:
    return {Blob._meta.db_table: blobs.spare(_UNREFERRED, now).count()}


def _collect(now: datetime) -> Iterator[Mapping[str, int]]:
    while True:
        try:
            found = blobs.collect_one(_UNREFERRED, now)
        except OSError:
            return  # the storage does not answer: the next time
        if not found:
            return
        yield {Blob._meta.db_table: 1}


RULE = Rule(count=_count, batches=_collect)
"""Blobs that no artifact refers to any more; after the executions, whose artifacts go with them."""


def files_in(directory: Path, most: int) -> Iterator[Path]:
    """The regular files below `directory`, at most so many; no links. Raises `TooLarge` for more."""
    count, pending = 0, [directory]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    count += 1
                    if count > most:
                        raise TooLarge(f"an attempt may leave {most:,} files", code="too_many_artifacts")
                    yield Path(entry.path)
