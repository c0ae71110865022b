"""What must hold of every execution's rows, whatever died and when; read from the rows and the journal alone.

The numbers are those of the list in `docs/engine.md`. A violation is a bug of the platform, never of a workflow.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Max, Q

from apps.core.clock import database_now
from apps.workflows.engine.states import TERMINAL
from apps.workflows.engine.types import TRACKER
from apps.workflows.models import Event, Execution, Task
from apps.workflows.selectors.invariants.journal import Journal, read_journal
from apps.workflows.selectors.invariants.rows import TaskRow, check_rows, check_with_journal
from apps.workflows.selectors.invariants.violation import Violation

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
    children = _children(found)
    for row in rows:
        told.executions += 1
        of_row: list[TaskRow] = []
        if next_tasks and next_tasks[0] == row.pk:
            of_row = list(next_tasks[1])
            next_tasks = next(tasks, None)
        journal: Journal | None = None
        if next_journal and next_journal[0] == row.pk:
            journal = read_journal(row, next_journal[1], told.violations)
            told.events += journal.lines
            next_journal = next(journals, None)
        else:
            told.violations.append(Violation(invariant="I6", execution_id=str(row.pk), what="it has no journal"))
        told.violations += check_rows(row, of_row, children)
        if journal:
            told.violations += check_with_journal(row, of_row, journal)


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
