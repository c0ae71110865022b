"""One turn of a performer: what it has to report and what it wants next, in one transaction.

Reports that gathered while the last commit was under way go together; a task that became ready by them is handed
over in the same transaction. So a chain costs one commit a step, and a fan-out a fraction of one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from django.db import DataError, Error, IntegrityError, OperationalError, connection

from apps.core.clock import carried_now
from apps.workflows import signals
from apps.workflows.engine.course import neighbours
from apps.workflows.engine.ids import execution_of, ordinal_of, step_of, step_ordinal
from apps.workflows.engine.states import TERMINAL
from apps.workflows.engine.types import (
    Accept,
    Completed,
    Decision,
    Failed,
    Happening,
    Ignore,
    Lost,
    Progressed,
    Reject,
    Released,
    Stopped,
)
from apps.workflows.selectors.graphs import slug_of
from apps.workflows.services.ledger import breakers, sql
from apps.workflows.services.ledger.claim import ClaimedTask, Wanted, claim, resolve
from apps.workflows.services.ledger.memory import memory
from apps.workflows.services.ledger.unit import Held, Unit, unit_of

MOST_AHEAD = 256  # tasks read before they are asked for
MOST_DEADLOCKS = 3  # of one turn

Outcome = Completed | Failed | Stopped | Released | Lost | Progressed


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A piece of a step's output, numbered from 1 within its attempt."""

    number: int
    stream: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What happened to a task under the lease that `happening.fence` names; its last log lines come with it."""

    task_id: UUID
    happening: Outcome
    logs: tuple[LogLine, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The answers, in the order of the reports; the tasks taken; whether others could find work now.

    With `looked` false every slot went to what became ready by the reports: the line is still to be looked at.
    `due_at` is the soonest moment at which the engine has to act on a task that this turn changed.
    """

    answers: tuple[Decision, ...] = ()
    claimed: tuple[ClaimedTask, ...] = ()
    more: bool = False
    looked: bool = True
    due_at: datetime | None = None


def turn(reports: Sequence[Report], wanted: Wanted | None = None) -> Turn:
    """Record reports and take tasks, atomically and durably: what this returns is committed.

    A report that the database refuses (it poisons its batch) is found by bisection and recorded as a failure of its
    own step; the others are not harmed. Raises what the database raises when it is out of reach.
    """
    try:
        if wanted is None or connection.in_atomic_block:
            # Nobody goes on from here, or what is written may yet be undone.
            with unit_of(_executions(reports)) as unit:
                return _turn(unit, reports, wanted)
        return _of_a_performer_again(reports, wanted)
    except (DataError, IntegrityError, ValueError, TypeError, sql.FencedError) as error:
        if len(reports) > 1:
            middle = len(reports) // 2
            first, second = turn(reports[:middle]), turn(reports[middle:], wanted)
            return replace(second, answers=first.answers + second.answers)
        if not reports or not isinstance(reports[0].happening, Completed | Progressed | Failed):
            raise
        happening = reports[0].happening
        why = {"type": "output", "message": f"it could not be recorded: {type(error).__name__}", "retryable": False}
        unfit = Failed(step_id=happening.step_id, fence=happening.fence, error=why)
        if happening == unfit or isinstance(error, sql.FencedError):
            raise
        return turn([Report(task_id=reports[0].task_id, happening=unfit)], wanted)
    except Error:
        memory.forget()
        raise


def _of_a_performer_again(reports: Sequence[Report], wanted: Wanted) -> Turn:
    """A performer's turn, begun anew where the database broke a deadlock by ending this one.

    Locks are taken in the order of ids and the line is locked with SKIP LOCKED, but PostgreSQL waits even so where a
    row of the line is changed again at the very moment at which it is looked at (`heap_lock_updated_tuple`), and two
    turns can meet there.
    """
    for left in reversed(range(MOST_DEADLOCKS)):
        try:
            return _of_a_performer(reports, wanted)
        except OperationalError as error:
            if not left or not sql.is_deadlock(error):
                raise
    raise AssertionError("the last try returns or raises")


def _of_a_performer(reports: Sequence[Report], wanted: Wanted) -> Turn:
    """A turn that goes on from what the one before left, where nobody else has written meanwhile.

    On PostgreSQL such a turn is one statement and one round trip.
    """
    executions = _executions(reports)
    if not executions:
        # Most doorbells are heard by several: those who come too late cost no transaction.
        with sql.statements() as cursor:
            if not sql.something_waits(cursor, now=carried_now()):
                return Turn()
    known = memory.take(executions)
    if not wanted.look and len(known) == len(executions) and not sql.is_sqlite() and _at_once(known.values()):
        try:
            with sql.statements() as cursor:
                unit = Unit.at_once(cursor, known)
                result = _turn(unit, reports, wanted)
        except sql.FencedError:  # somebody was faster
            with unit_of(executions) as unit:
                result = _turn(unit, reports, wanted)
            for held in unit.held.values():
                held.undisturbed = False
    else:
        with unit_of(executions, known) as unit:
            result = _turn(unit, reports, wanted)
    memory.keep(unit.held.values())
    return result


def _executions(reports: Iterable[Report]) -> list[UUID]:
    """The executions that are reported on, the oldest first: in that order what becomes ready in them is taken."""
    return sorted({execution_of(report.task_id) for report in reports})


def _at_once(known: Iterable[Held]) -> bool:
    """Whether the next change of these can be one statement, and is not likely to come too late."""
    return all(held.undisturbed and held.graph.alone and not held.state.owes_parent for held in known)


def _turn(unit: Unit, reports: Sequence[Report], wanted: Wanted | None) -> Turn:
    _read_neighbourhoods(unit, reports)
    answers = tuple(_answer(unit, report) for report in reports)
    tripped = breakers.note(guarded) if (guarded := _guarded(unit, reports, answers)) else frozenset()
    taken = claim(unit, wanted, tripped) if wanted and wanted.slots > 0 else []
    claimed = resolve(unit, taken)
    next_ = [(e, name) for e, task in taken for name in unit.held[e].graph.dependants.get(step_of(task), ())]
    unit.flush(_logs(reports, answers), next_ if len(next_) <= MOST_AHEAD else ())
    # Where nothing moved, looking again at once would find the same.
    more = _announce(unit, moved=bool(reports or taken or unit.put_off))
    return Turn(answers=answers, claimed=claimed, more=more, looked=unit.looked, due_at=unit.next_due())


def _read_neighbourhoods(unit: Unit, reports: Sequence[Report]) -> None:
    near = []
    for report in reports:
        execution, ordinal = execution_of(report.task_id), ordinal_of(report.task_id)
        held = unit.held.get(execution)
        spec = held.graph.by_ordinal.get(step_ordinal(ordinal)) if held else None
        if held and spec:
            near += [(execution, one) for one in neighbours(held.graph, report.happening.step_id, report.happening)]
    unit.read(near)


def _answer(unit: Unit, report: Report) -> Decision:
    execution = execution_of(report.task_id)
    held = unit.held.get(execution)
    name = report.happening.step_id
    if held is None or name not in held.tasks or held.task_id(name) != report.task_id:
        return Reject(code="not_found", reason="there is no such task (it may have been pruned)")
    happening: Happening = report.happening
    if isinstance(happening, Failed) and (guards := unit.spec(execution, name).breakers):
        happening = breakers.read(guards, happening, unit.now)
    return unit.happen(execution, happening)


def _guarded(unit: Unit, reports: Sequence[Report], answers: Sequence[Decision]) -> list[breakers.Told]:
    """Of the reports those about steps with circuit breakers."""
    return [
        (guards, report.task_id, report.happening)
        for report, answer in zip(reports, answers, strict=True)
        if isinstance(answer, Accept)
        and (spec := unit.held[execution_of(report.task_id)].graph.steps.get(step_of(report.happening.step_id)))
        and (guards := spec.breakers)
    ]


# --- the end ----------------------------------------------------------------------------------------------------------


def _logs(reports: Sequence[Report], answers: Sequence[Decision]) -> list[tuple[UUID, int, int, str, str]]:
    """The log lines of every report whose lease held (a repeated one wrote its lines the first time)."""
    return [
        (report.task_id, report.happening.fence, line.number, line.stream, line.text)
        for report, answer in zip(reports, answers, strict=True)
        if isinstance(answer, Accept) or (isinstance(answer, Ignore) and isinstance(report.happening, Progressed))
        for line in report.logs
    ]


def _announce(unit: Unit, *, moved: bool) -> bool:
    """Ring for what this transaction did; gives whether there is work for others."""
    grown = [identity for identity, held in unit.held.items() if held.facts]
    more = moved and (
        unit.line_goes_on
        or any(held.state.ready_at is not None and held.state.ready_at <= unit.now for held in unit.held.values())
    )
    if grown or more:
        signals.announce(executions=grown, closed=ended_of(unit), ready=more)
    return more


def ended_of(unit: Unit) -> tuple[signals.Closed, ...]:
    """What is told of the executions that ended in this transaction."""
    return tuple(closed(h.row) for h in unit.held.values() if h.facts and h.row.state.status in TERMINAL)


def closed(row: sql.ExecutionRow) -> signals.Closed:
    """What is told of an execution that has ended."""
    assert row.state.finished_at is not None  # noqa: S101 (terminal)
    return signals.Closed(
        execution_id=row.id,
        workflow_slug=slug_of(row.workflow_id),
        trace_id=row.trace_id,
        status=row.state.status.value,
        started_at=row.state.started_at,
        finished_at=row.state.finished_at,
        parent_execution_id=execution_of(row.parent_task) if row.parent_task else None,
        trace_parent=row.trace_parent,
    )
