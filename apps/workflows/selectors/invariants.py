"""What must hold of every execution's rows, whatever died and when; read from the rows and the journal alone.

The numbers are those of the list in `docs/engine.md`. A violation is a bug of the platform, never of a workflow.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from django.db.models import Count, F, Min, Q

from apps.workflows.engine.ids import step_of
from apps.workflows.engine.states import OPEN, TERMINAL, Status
from apps.workflows.models import Event, Execution, Task, Workflow
from apps.workflows.selectors.graphs import graph_of

AT_ONCE = 200  # executions

# Ready, leased, waiting for a time, or for somebody's word: I2.
_MOVING = (
    Q(ready_at__isnull=False) | Q(lease_expires_at__isnull=False) | Q(due_at__isnull=False)
    | Q(waiting_for__in=["leave", "approval", "execution"]) | Q(waiting_for__startswith="signal:")
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One thing that does not hold."""

    invariant: str
    execution_id: str
    what: str


@dataclass(slots=True)
class Verdict:
    """How much was looked at, and what does not hold."""

    executions: int = 0
    events: int = 0
    violations: list[Violation] = field(default_factory=list)


def verdict() -> Verdict:
    """Look at every execution, a few hundred at a time; each as it was at one moment."""
    told = Verdict()
    ids = list(Execution.objects.order_by("pk").values_list("pk", flat=True))
    for start in range(0, len(ids), AT_ONCE):
        rows = list(
            Execution.objects.filter(pk__in=ids[start : start + AT_ONCE]).select_related("workflow").order_by("pk")
        )
        told.executions += len(rows)
        told.violations += _stuck(rows)
        told.events += _read_journals(rows, told.violations)
    return told


def _stuck(rows: Iterable[Execution]) -> Iterator[Violation]:
    """I2, from the rows."""
    opened = {status.value for status in OPEN}
    counts = {
        row["execution"]: row
        for row in Task.objects.filter(execution__in=rows)
        .values("execution")
        .annotate(
            total=Count("pk"),
            open=Count("pk", filter=Q(status__in=opened)),
            moving=Count("pk", filter=_MOVING),
            soonest=Min("ready_at"),
            failed=Count("pk", filter=Q(status__in=["failed", "timed_out"])),
        )
    }
    for row in rows:
        if row.status in TERMINAL:
            continue
        found = counts.get(row.pk, {"total": 0, "open": 0, "moving": 0, "soonest": None})
        tracker = row.workflow.kind == Workflow.Kind.TRACKER
        if (found["open"], found["total"]) != (row.open_tasks, row.tasks_total):
            told = (
                f"it counts {row.open_tasks} open of {row.tasks_total} tasks; {found['open']} of {found['total']} are"
            )
            yield Violation(invariant="I2", execution_id=str(row.pk), what=told)
        if not tracker and not found["moving"]:
            yield Violation(invariant="I2", execution_id=str(row.pk), what="open, and nothing of it can move")
        let = not (row.cancel_requested_at or row.held or row.status == Status.PAUSED)
        if found["soonest"] and row.ready_at is None and let:
            yield Violation(invariant="I2", execution_id=str(row.pk), what="it has a ready task and no place in line")


def _read_journals(rows: list[Execution], violations: list[Violation]) -> int:
    """I3, I4, I6, I7 and I8, from the journals; gives how many events were read."""
    by_id = {row.pk: row for row in rows}
    count = 0
    events = Event.objects.filter(execution__in=rows, seq__lte=F("execution__seq")).order_by("execution_id", "seq")
    seen = set()
    for identity, lines in groupby(events.iterator(chunk_size=2000), key=lambda event: event.execution_id):
        journal = list(lines)
        count += len(journal)
        seen.add(identity)
        violations += _of_journal(by_id[identity], journal)
    violations += [
        Violation(invariant="I6", execution_id=str(row.pk), what="it has no journal")
        for row in rows
        if row.pk not in seen
    ]
    return count


def _of_journal(row: Execution, journal: list[Event]) -> Iterator[Violation]:
    graph = graph_of(row.version_id)
    ended: dict[str, str] = {}
    attempts: dict[str, int] = {}
    percent = 0.0
    stopping = False

    def wrong(invariant: str, what: str) -> Violation:
        return Violation(invariant=invariant, execution_id=str(row.pk), what=what)

    # The row may have been read a moment before its journal: what came later is not looked at.
    journal = journal[: row.seq]
    if [event.seq for event in journal] != list(range(1, row.seq + 1)):
        yield wrong("I6", f"its journal has {len(journal)} lines up to number {row.seq}")
    for event in journal:
        step, status = event.step_id, event.data.get("status")
        overall = event.data.get("overall_percent", percent)
        if overall < percent:
            yield wrong("I7", f"line {event.seq}: {percent} % fell to {overall} %")
        percent = overall
        if ended.get(""):
            yield wrong("I5", f"line {event.seq}: {event.type} after the end")
        stopping = stopping or event.type in ("execution.cancel_requested", "execution.timeout")
        if event.type == "task.started" and (spec := graph.steps.get(step_of(step))):
            attempt = event.data.get("attempt")
            if attempt != attempts.get(step, 0) + 1:
                yield wrong("I4", f"line {event.seq}: attempt {attempt} of {step} follows {attempts.get(step, 0)}")
            attempts[step] = int(attempt or 0)
            if stopping:
                yield wrong("I12", f"line {event.seq}: {step} started after the cancel")
            if missing := [name for name in spec.depends_on if name not in ended]:
                yield wrong("I8", f"line {event.seq}: {step} started before {', '.join(missing)} had ended")
        if status in TERMINAL:
            if step in ended and step:
                yield wrong("I3", f"line {event.seq}: {step} ended twice, {ended[step]} and {status}")
            ended[step] = str(status)
    if (row.status in TERMINAL) != ("" in ended) or ended.get("", row.status) != row.status:
        yield wrong("I6", f"the row says {row.status}, its journal {ended.get('', 'that it is open')}")
