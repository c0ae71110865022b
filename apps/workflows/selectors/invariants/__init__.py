"""What must hold of every execution's rows, whatever died and when; read from the rows and the journal alone.

The numbers are those of the list in `docs/engine.md`. A violation is a bug of the platform, never of a workflow.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

from django.core.exceptions import ObjectDoesNotExist
from django.db import connection
from django.db.models import F, Max, Q

from apps.core.clock import database_now
from apps.core.errors import Invalid
from apps.workflows.engine.states import TERMINAL
from apps.workflows.engine.types import TRACKER
from apps.workflows.models import Event, Execution, Lane, LogChunk, Task
from apps.workflows.selectors.graphs import graph_of, readable
from apps.workflows.selectors.invariants.journal import Journal, read_journal
from apps.workflows.selectors.invariants.rows import Around, TaskRow, check_rows, check_with_journal
from apps.workflows.selectors.invariants.violation import Violation
from apps.workflows.selectors.queues import DEFAULT

__all__ = ["Verdict", "Violation", "verdict"]

AT_ONCE = 200  # executions


@dataclass(slots=True)
class Verdict:
    """How much was looked at, and what does not hold. `attempts` is the largest number of one task."""

    executions: int = 0
    events: int = 0
    steps: int = 0
    attempts: int = 0
    violations: list[Violation] = field(default_factory=list)


def verdict(*, overdue: float | None = None) -> Verdict:
    """Look at every execution, a few hundred at a time; each as it was at one moment.

    With `overdue` it is also asked that nothing which the platform owes by itself is late by more than so many
    seconds (I9); that holds only while workers run.
    """
    told = Verdict()
    ids = list(Execution.objects.order_by("pk").values_list("pk", flat=True))
    for start in range(0, len(ids), AT_ONCE):
        with one_moment():
            _look(ids[start : start + AT_ONCE], told)
    told.steps = Task.objects.count()
    told.attempts = Task.objects.aggregate(most=Max("fence"))["most"] or 0
    if overdue is not None:
        told.violations += _late(overdue)
    return told


@contextmanager
def one_moment() -> Iterator[None]:
    """What is read in the block is as it was at one moment; nobody waits for it. Inside a transaction: as that sees."""
    if connection.in_atomic_block:
        yield
        return
    lite = connection.vendor == "sqlite"
    with connection.cursor() as cursor:
        # Not Django's `atomic`: on SQLite that takes the writers' lock.
        cursor.execute("BEGIN DEFERRED" if lite else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")


def _look(ids: Sequence[UUID], told: Verdict) -> None:
    rows = list(Execution.objects.filter(pk__in=ids).select_related("workflow").order_by("pk"))
    found = [row.pk for row in rows]  # others were pruned meanwhile
    tasks = groupby(_tasks(found), key=lambda task: task.execution_id)
    journals = groupby(_events(found), key=lambda event: event.execution_id)
    next_tasks, next_journal = next(tasks, None), next(journals, None)
    lanes = frozenset(Lane.objects.values_list("key", flat=True)) | {DEFAULT}  # served though no definition named it
    around = Around(children=_children(found), lanes=lanes, now=database_now())
    for row in rows:
        told.executions += 1
        of_row: list[TaskRow] = []
        if next_tasks and next_tasks[0] == row.pk:
            of_row = list(next_tasks[1])
            next_tasks = next(tasks, None)
        events: Iterator[Event] | None = None
        if next_journal and next_journal[0] == row.pk:
            events = next_journal[1]
        try:
            told.violations += _of_one(row, of_row, events, around, told)
        except (TypeError, ValueError, AttributeError, LookupError, ObjectDoesNotExist, Invalid) as error:
            unreadable = f"a row of it cannot be read: {type(error).__name__}: {error}"
            told.violations.append(Violation(invariant="I10", execution_id=str(row.pk), what=unreadable))
        if events is not None:
            next_journal = next(journals, None)
    for execution, step in _logs_of_the_future(found):
        what = f"{step} has log lines of an attempt that was never begun"
        told.violations.append(Violation(invariant="I4", execution_id=str(execution), what=what))


def _of_one(
    row: Execution, tasks: Sequence[TaskRow], events: Iterator[Event] | None, around: Around, told: Verdict
) -> list[Violation]:
    found: list[Violation] = []
    journal: Journal | None = None
    if events is not None:
        journal = read_journal(row, events, found)
        told.events += journal.lines
    else:
        found.append(Violation(invariant="I6", execution_id=str(row.pk), what="it has no journal"))
    found += check_rows(row, tasks, around)
    if journal:
        found += check_with_journal(row, tasks, journal)
    return found


def _logs_of_the_future(ids: Sequence[UUID]) -> Iterator[tuple[UUID, str]]:
    later = LogChunk.objects.filter(task__execution__in=ids, fence__gt=F("task__fence"))
    yield from later.values_list("task__execution_id", "task__step_id").distinct()


def _tasks(ids: Sequence[UUID]) -> Iterator[TaskRow]:
    names = TaskRow._fields
    rows = Task.objects.filter(execution__in=ids).order_by("execution_id", "pk").values_list(*names)
    return map(TaskRow._make, rows.iterator(chunk_size=2000))


def _events(ids: Sequence[UUID]) -> Iterator[Event]:
    return Event.objects.filter(execution__in=ids).order_by("execution_id", "seq").iterator(chunk_size=2000)


def _children(ids: Sequence[UUID]) -> frozenset[UUID]:
    """The tasks of these executions that will hear of a sub-workflow: it runs, or its end has still to be told."""
    will = Q(finished_at__isnull=True) | Q(owes_parent=True)
    return frozenset(
        Execution.objects.filter(will, parent_task__execution__in=ids).values_list("parent_task_id", flat=True)
    )


def _late(seconds: float) -> Iterator[Violation]:
    """I9: what the reaper, the timers and the sweep should have done by now."""
    limit = database_now() - timedelta(seconds=seconds)

    def late(execution: Any, what: str) -> Violation:
        return Violation(invariant="I9", execution_id=str(execution), what=what)

    for task in Task.objects.filter(lease_expires_at__lt=limit).exclude(lease_owner=TRACKER)[:AT_ONCE]:
        yield late(task.execution_id, f"the lease of {task.step_id} ran out at {task.lease_expires_at:%H:%M:%S}")
    for task in Task.objects.filter(due_at__lt=limit)[:AT_ONCE]:
        yield late(task.execution_id, f"{task.step_id} was due at {task.due_at:%H:%M:%S}")
    ended = Execution.objects.filter(owes_parent=True, finished_at__lt=limit, status__in=sorted(TERMINAL))
    for row in ended.exclude(parent_task=None)[:AT_ONCE]:
        yield late(row.pk, "its end was not told to the execution that waits for it")
    unstopped = Execution.objects.filter(finished_at=None, cancel_requested_at=None)
    for row in unstopped.filter(deadline_at__lt=limit)[:AT_ONCE]:
        yield late(row.pk, f"its timeout_seconds passed at {row.deadline_at:%H:%M:%S}")
    left = Q(parent_task__finished_at__lt=limit) | Q(parent_task__execution__cancel_requested_at__lt=limit)
    for row in unstopped.filter(left, parent_task__isnull=False)[:AT_ONCE]:
        yield late(row.pk, "nobody waits for it any more, and it was not stopped")
    for row in unstopped.filter(held=True, created_at__lt=limit)[:AT_ONCE]:
        if _could_begin(row, limit):
            yield late(row.pk, "it is held back by a limit that has room for it")


def _could_begin(row: Execution, limit: datetime) -> bool:
    """Whether its limit on executions has had room since `limit`."""
    alike = Execution.objects.filter(workflow=row.workflow_id, concurrency_key=row.concurrency_key)
    alike = alike.exclude(held=True, finished_at=None)
    if not readable(row.version_id):
        return False  # that is told by itself
    concurrency = graph_of(row.version_id).concurrency
    standing = alike.filter(Q(finished_at=None) | Q(finished_at__gte=limit)).count()
    return standing < (concurrency.limit if concurrency else 1)
