"""How long what ran is kept. Who calls `run` now and then (any process, several at a time) keeps every table small.

What metrics count of an execution is part of `OutcomeTotal` before it is pruned.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery, Sum

from apps.accounts.retention import RULES as ACCOUNTS
from apps.core import retention
from apps.core.retention import Pruned, Rule, rows
from apps.workflows.engine.breaker import State
from apps.workflows.engine.states import Status
from apps.workflows.models import (
    BreakerMove,
    CachedResult,
    CircuitBreaker,
    Event,
    Execution,
    IdempotencyKey,
    LogChunk,
    RateLimit,
    Task,
    Workflow,
    WorkflowVersion,
)
from apps.workflows.services import artifacts, counting
from apps.workflows.services.erasing import erase
from apps.workflows.services.requests import KEPT

NEWEST_KEPT = 20  # completed executions of each workflow: plans rest on them
AT_ONCE = 200  # executions in one transaction
ROWS_AT_ONCE = 20_000  # tasks and events in one transaction, unless a single execution has more
IDLE = timedelta(days=1)  # a rate limit that was not used for so long is as good as new
_SKEW = timedelta(hours=1)  # ids are made by the clocks of the hosts, times by the database's


def run(now: datetime, budget_seconds: float | None = None) -> Pruned:
    """Prune what is too old at `now`, for at most about `budget_seconds`; the next call goes on. Meant for every hour.

    Raises what the database raises; whatever was committed until then is whole.
    """
    return retention.run(RULES, now, budget_seconds)


def count(now: datetime) -> Mapping[str, int]:
    """How many rows `run` would take, by table. Changes nothing."""
    return retention.count(RULES, now)


# --- executions -------------------------------------------------------------------------------------------------------


def _ended(now: datetime) -> QuerySet[Execution]:
    """Executions that go: ended long ago, and neither among the newest that completed nor owing their end to a task."""
    newest = Execution.objects.filter(workflow=OuterRef("workflow"), status=Status.COMPLETED).order_by("-id")
    oldest_kept = Subquery(newest.values("id")[NEWEST_KEPT - 1 : NEWEST_KEPT])  # null where there are fewer
    old = Execution.objects.filter(finished_at__lt=now - timedelta(days=settings.ENV.RETENTION_DAYS))
    owes_nothing = Q(owes_parent=False) | Q(parent_task__isnull=True)
    return old.filter(owes_nothing, ~Q(status=Status.COMPLETED) | Q(pk__lt=oldest_kept))


def _count_executions(now: datetime) -> Mapping[str, int]:
    found = _ended(now).aggregate(tasks=Sum("tasks_total", default=0), events=Sum("seq", default=0))
    return {
        Execution._meta.db_table: _ended(now).count(),
        Task._meta.db_table: found["tasks"],
        Event._meta.db_table: found["events"],
    }


def _prune_executions(now: datetime) -> Iterator[Mapping[str, int]]:
    since: datetime | None = None  # what was looked at and kept is not looked at again
    while True:
        with transaction.atomic():
            some = _ended(now) if since is None else _ended(now).filter(finished_at__gte=since)
            locked = some.select_for_update(skip_locked=True, of=("self",)).order_by("finished_at")
            found = _so_many(locked.defer("inputs", "outputs")[:AT_ONCE])
            if not found:
                return
            since = found[-1].finished_at
            counting.mark([row.pk for row in found if not row.counted])
            gone = erase(Execution.objects.filter(pk__in=[row.pk for row in found]))
        yield gone


def _so_many(found: Iterable[Execution]) -> list[Execution]:
    """As many of them as make a short transaction, and at least one."""
    chosen: list[Execution] = []
    weight = 0
    for row in found:
        weight += row.tasks_total + row.seq
        if chosen and weight > ROWS_AT_ONCE:
            break
        chosen.append(row)
    return chosen


# --- logs -------------------------------------------------------------------------------------------------------------


def _logs(now: datetime) -> QuerySet[LogChunk]:
    """Chunks written long ago. The id of a task tells when its execution was made: older chunks have smaller keys."""
    before = now - timedelta(days=settings.ENV.LOG_RETENTION_DAYS)
    bound = UUID(int=int((before + _SKEW).timestamp() * 1000) << 80)
    return LogChunk.objects.filter(task_id__lt=bound, at__lt=before)


def _prune_logs(now: datetime) -> Iterator[Mapping[str, int]]:
    since: UUID | None = None
    while True:
        with transaction.atomic():
            some = _logs(now) if since is None else _logs(now).filter(task_id__gte=since)
            locked = some.select_for_update(skip_locked=True).order_by("task_id", "fence", "number")
            keys: list[Any] = list(locked.values_list("pk", flat=True)[: retention.AT_ONCE])
            if not keys:
                return
            since = keys[-1][0]
            LogChunk.objects.filter(pk__in=keys).delete()
        yield {LogChunk._meta.db_table: len(keys)}


# --- versions of ad-hoc tasks -----------------------------------------------------------------------------------------


def _spent_versions(_now: datetime) -> QuerySet[WorkflowVersion]:
    """Versions that were made for ad-hoc tasks of which none is left; never a workflow's present one."""
    ran = Execution.objects.filter(version=OuterRef("pk"))
    of_tasks = WorkflowVersion.objects.filter(workflow__kind=Workflow.Kind.TASKS)
    return of_tasks.exclude(number=F("workflow__version_number")).filter(~Exists(ran))


def _count_versions(now: datetime) -> Mapping[str, int]:
    return {WorkflowVersion._meta.db_table: _spent_versions(now).count()}


def _prune_versions(now: datetime) -> Iterator[Mapping[str, int]]:
    for workflow in _spent_versions(now).values_list("workflow", flat=True).distinct():
        while True:
            with transaction.atomic():
                # Who starts an ad-hoc task holds this lock: no version goes while it is being used again.
                if not Workflow.objects.select_for_update(no_key=True, skip_locked=True).filter(pk=workflow):
                    break
                keys = list(_spent_versions(now).filter(workflow=workflow).values_list("pk", flat=True)[:AT_ONCE])
                erase(WorkflowVersion.objects.filter(pk__in=keys))
            if not keys:
                break
            yield {WorkflowVersion._meta.db_table: len(keys)}


# --- the rest ---------------------------------------------------------------------------------------------------------


def _keys(now: datetime) -> QuerySet[IdempotencyKey]:
    return IdempotencyKey.objects.filter(created_at__lt=now - KEPT)


def _results(now: datetime) -> QuerySet[CachedResult]:
    return CachedResult.objects.filter(expires_at__lt=now)


def _limits(now: datetime) -> QuerySet[RateLimit]:
    return RateLimit.objects.filter(free_at__lt=now - IDLE)


def _breakers(now: datetime) -> QuerySet[CircuitBreaker]:
    """Closed ones that no call was counted into for long; whoever asks for one again makes it again."""
    before = now - timedelta(days=settings.ENV.RETENTION_DAYS)
    return CircuitBreaker.objects.filter(state=State.CLOSED, fixed=False, used_at__lt=before)


def _breaker_moves(now: datetime) -> QuerySet[BreakerMove]:
    return BreakerMove.objects.filter(at__lt=now - timedelta(days=settings.ENV.RETENTION_DAYS))


def _count_logs(now: datetime) -> Mapping[str, int]:
    return {LogChunk._meta.db_table: _logs(now).count()}


RULES: tuple[Rule, ...] = (
    *ACCOUNTS,
    rows(_keys),
    rows(_results),
    rows(_limits),
    rows(_breakers),
    rows(_breaker_moves),
    Rule(count=_count_logs, batches=_prune_logs),
    Rule(count=_count_executions, batches=_prune_executions),
    Rule(count=_count_versions, batches=_prune_versions),
    artifacts.RULE,
)
"""What costs least comes first; versions after the executions that ran them."""
