"""Marks executions that ended as counted and adds them to the totals; keeps the platform's own figures.

A scrape then reads totals and the few executions that are not yet marked, in one statement, so it sees each once: the
mark and the sum are one transaction. Whoever is killed between two of them has lost nothing. Any process may call it.
"""

import json
from collections.abc import Sequence
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F

from apps.workflows.models import Execution, Figure, GoneTotal, MetricLabel, OutcomeTotal, Workflow
from apps.workflows.selectors.outcomes import Heir, Kept, to_keep
from apps.workflows.selectors.statistics import BOUNDS, EXECUTION_OUTCOMES, outcomes

AT_ONCE = 200  # executions in one transaction
TASKS_AT_ONCE = 20_000  # of them, unless a single execution has more
_LOCK = 0x636F756E74  # of PostgreSQL's advisory locks; SQLite has one writer anyway

_HEIRS = {Workflow.Kind.TRACKER.value: Heir.TRACKER, Workflow.Kind.TASKS.value: Heir.TASKS}
WORKERS_LOST, SCHEDULES_MISSED, SCHEDULER_TICK = "workers_lost", "schedules_missed", "scheduler_tick"
"""Names of figures."""


def count_ended() -> int:
    """Count some of the executions that ended and were not counted; how many. Zero: there are none, or others do it."""
    waiting = Execution.objects.filter(counted=False, status__in=EXECUTION_OUTCOMES)
    if not waiting.exists():
        return 0  # asked all the time, mostly in vain: no writer's lock for that
    with transaction.atomic():
        locked = waiting.select_for_update(skip_locked=True, of=("self",), no_key=True).order_by()
        found = list(locked.values_list("pk", "tasks_total")[:AT_ONCE])
        chosen: list[UUID] = []
        weight = 0
        for pk, tasks in found:
            weight += tasks
            if chosen and weight > TASKS_AT_ONCE:
                break
            chosen.append(pk)
        mark(chosen)
    return len(chosen)


def mark(executions: Sequence[UUID]) -> None:
    """Count these executions, which have ended and are not counted. Inside a transaction that holds their locks."""
    if not executions:
        return
    nameless = set(
        Execution.objects.filter(pk__in=executions)
        .exclude(workflow__kind=Workflow.Kind.WORKFLOW)
        .values_list("workflow_id", flat=True)
    )
    more: list[tuple[str, Kept]] = []
    for what, bounds in BOUNDS.items():
        without_steps = nameless if what == OutcomeTotal.What.TASK else ()
        kept = to_keep(outcomes(what, among=executions), bounds, without_steps=without_steps)
        more += [(what, one) for one in kept]
    _add(more)
    Execution.objects.filter(pk__in=executions).update(counted=True)


def _add(more: Sequence[tuple[str, Kept]]) -> None:
    """Add to the totals, one transaction after the other: two who read the same total must not both write it."""
    _alone()
    kept = {(what, *one.key): one for what, one in more}
    rows = OutcomeTotal.objects.filter(workflow__in={one.workflow_id for one in kept.values()})
    new = dict(kept)
    changed = []
    for row in rows:
        key = (row.what, row.workflow_id, row.step_id, row.status, row.error_type)
        one = new.pop(key, None)
        if one is not None:
            one.add(Kept(workflow_id=row.workflow_id, step_id="", status="", error_type="", buckets=row.buckets))
            changed.append((key, one))
    OutcomeTotal.objects.bulk_create(
        OutcomeTotal(
            workflow_id=one.workflow_id, what=what, step_id=one.step_id, status=one.status, error_type=one.error_type,
            count=one.count, retries=one.retries, microseconds=one.microseconds, buckets=one.buckets,
        )
        for (what, *_), one in new.items()
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE workflows_outcometotal SET count = count + %s, retries = retries + %s,"
            " microseconds = microseconds + %s, buckets = %s"
            " WHERE what = %s AND workflow_id = %s AND step_id = %s AND status = %s AND error_type = %s",
            [
                [one.count, one.retries, one.microseconds, json.dumps(one.buckets), key[0], _uuid(key[1]), *key[2:]]
                for key, one in changed
            ],
        )


def bequeath(workflow: Workflow) -> None:
    """Let what was counted of a workflow, all of whose executions have ended, stay in the series that others share.

    In the transaction that deletes the workflow, and whoever reads sees both: such a counter never falls.
    """
    uncounted = Execution.objects.filter(workflow=workflow, counted=False).select_for_update(no_key=True).order_by("pk")
    found = list(uncounted.values_list("pk", flat=True))
    for place in range(0, len(found), AT_ONCE):
        mark(found[place : place + AT_ONCE])
    left = _left_of(workflow)
    OutcomeTotal.objects.filter(workflow=workflow).delete()
    _alone()
    for (what, *_), kept in left.items():
        _inherit(what, kept)


def _left_of(workflow: Workflow) -> dict[tuple[str, UUID, str, str, str], Kept]:
    """The totals of a workflow under the names of its heirs, but for what only had a label of the workflow's own."""
    own = set(MetricLabel.objects.filter(workflow=workflow).values_list("step_id", flat=True))
    left: dict[tuple[str, UUID, str, str, str], Kept] = {}
    for row in OutcomeTotal.objects.filter(workflow=workflow):
        is_wait = row.what == OutcomeTotal.What.WAIT
        heir = _HEIRS.get(workflow.kind, Heir.OTHER)
        if heir == Heir.OTHER and "" in own and (row.what == OutcomeTotal.What.EXECUTION or row.step_id in own):
            heir = Heir.OWN
            if not row.error_type:
                continue
        kept = Kept(
            workflow_id=Heir.OWN if is_wait else heir, step_id=row.step_id if is_wait else "", status=row.status,
            error_type=row.error_type, count=row.count, retries=row.retries, microseconds=row.microseconds,
            buckets=dict(row.buckets),
        )  # fmt: skip
        key = (row.what, *kept.key)
        if key in left:
            left[key].add(kept)
        else:
            left[key] = kept
    return left


def _inherit(what: str, kept: Kept) -> None:
    """Add it to what its heir has."""
    key = {
        "heir": kept.workflow_id, "what": what, "step_id": kept.step_id, "status": kept.status,
        "error_type": kept.error_type,
    }  # fmt: skip
    has = GoneTotal.objects.filter(**key).first() or GoneTotal(**key)
    kept.add(Kept(
        workflow_id=kept.workflow_id, step_id="", status="", error_type="", count=has.count, retries=has.retries,
        microseconds=has.microseconds, buckets=has.buckets,
    ))  # fmt: skip
    has.count, has.retries, has.microseconds, has.buckets = kept.count, kept.retries, kept.microseconds, kept.buckets
    has.save()


def _alone() -> None:
    """Until the transaction ends nobody else adds to totals."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def _uuid(key: UUID) -> str | UUID:
    return key.hex if connection.vendor == "sqlite" else key


# --- figures ----------------------------------------------------------------------------------------------------------


def add(name: str, number: int) -> None:
    """Let a figure rise; in the caller's transaction."""
    if number and not Figure.objects.filter(pk=name).update(value=F("value") + number):
        Figure.objects.get_or_create(pk=name)
        Figure.objects.filter(pk=name).update(value=F("value") + number)


def note(name: str, value: float, *, unless_newer_than: float) -> None:
    """Set a figure that only rises, unless it is above `unless_newer_than` already: whoever was there saw to it."""
    if Figure.objects.filter(pk=name, value__gt=unless_newer_than).exists():
        return
    if not Figure.objects.filter(pk=name).update(value=value):
        Figure.objects.get_or_create(pk=name, defaults={"value": value})
