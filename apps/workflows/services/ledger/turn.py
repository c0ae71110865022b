"""One turn of a performer: what it has to report and what it wants next, in one transaction.

Reports that gathered while the last commit was under way go together; a task that became ready by them is handed
over in the same transaction. So a chain costs one commit a step, and a fan-out a fraction of one.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import DataError, IntegrityError

from apps.workflows import signals
from apps.workflows.engine.decide import context_of
from apps.workflows.engine.expressions import ExpressionError, render
from apps.workflows.engine.ids import execution_of, ordinal_of
from apps.workflows.engine.states import CLAIMABLE, TERMINAL
from apps.workflows.engine.types import (
    Accept,
    Claimed,
    Completed,
    Decision,
    Failed,
    Ignore,
    Lost,
    Progressed,
    Reject,
    Released,
    Stopped,
)
from apps.workflows.selectors.graphs import slug_of
from apps.workflows.services.ledger import sql
from apps.workflows.services.ledger.unit import Unit, lease_until, unit_of

Outcome = Completed | Failed | Stopped | Released | Lost | Progressed
MAX_LINE = 16  # executions looked at by one claim


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
class Wanted:
    """What a performer would take: at most `slots` tasks, of `queues` (None: all), leased for `lease_seconds`.

    With `look` false it takes only what becomes ready by its own reports, and looks at no other execution.
    """

    owner: str
    slots: int
    lease_seconds: float
    queues: tuple[str, ...] | None = None
    look: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedTask:
    """A task under a lease, with its configuration resolved."""

    task_id: UUID
    fence: int
    execution_id: UUID
    workflow_slug: str
    step_id: str
    kind: str
    config: Any
    stdin: bytes
    timeout_seconds: float | None
    lease_expires_at: datetime
    trace_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The answers, in the order of the reports; the tasks taken; and whether others could find work now."""

    answers: tuple[Decision, ...] = ()
    claimed: tuple[ClaimedTask, ...] = ()
    more: bool = False


def turn(reports: Sequence[Report], wanted: Wanted | None = None) -> Turn:
    """Record reports and take tasks, atomically and durably: what this returns is committed.

    A report that the database refuses (it poisons its batch) is found by bisection and recorded as a failure of its
    own step; the others are not harmed. Raises what the database raises when it is out of reach.
    """
    try:
        with unit_of({execution_of(report.task_id) for report in reports}) as unit:
            return _turn(unit, reports, wanted)
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


def _turn(unit: Unit, reports: Sequence[Report], wanted: Wanted | None) -> Turn:
    _read_neighbourhoods(unit, reports)
    answers = tuple(_answer(unit, report) for report in reports)
    taken = _claim(unit, wanted) if wanted and wanted.slots > 0 else []
    claimed = _resolve(unit, taken)
    unit.flush()
    _write_logs(unit, reports, answers)
    more = _announce(unit)
    return Turn(answers=answers, claimed=claimed, more=more)


def _read_neighbourhoods(unit: Unit, reports: Sequence[Report]) -> None:
    near = []
    for report in reports:
        execution = execution_of(report.task_id)
        held = unit.held.get(execution)
        spec = held.graph.by_ordinal.get(ordinal_of(report.task_id)) if held else None
        if held and spec:
            near.append((execution, spec.id))
            if not isinstance(report.happening, Progressed):
                near += [(execution, dependant) for dependant in held.graph.dependants[spec.id]]
    unit.read(near)


def _answer(unit: Unit, report: Report) -> Decision:
    execution = execution_of(report.task_id)
    held = unit.held.get(execution)
    if held is None or report.happening.step_id not in held.tasks:
        return Reject(code="not_found", reason="there is no such task (it may have been pruned)")
    return unit.happen(execution, report.happening)


# --- claiming ---------------------------------------------------------------------------------------------------------


def _claim(unit: Unit, wanted: Wanted) -> list[tuple[UUID, str]]:
    taken: list[tuple[UUID, str]] = []
    for execution, held in list(unit.held.items()):
        for step in held.became_ready:
            if len(taken) < wanted.slots:
                _take(unit, execution, step, wanted, taken)
    if len(taken) < wanted.slots and wanted.look:
        _claim_from_the_line(unit, wanted, taken)
    return taken


def _claim_from_the_line(unit: Unit, wanted: Wanted, taken: list[tuple[UUID, str]]) -> None:
    """An equal share for each of the first executions of the line; what is then still free is for the next look."""
    free = wanted.slots - len(taken)
    limit = min(MAX_LINE, free)
    line = sql.lock_line(unit.cursor, now=unit.now, limit=limit, queues=wanted.queues)
    unit.line_goes_on = len(line) == limit
    line = [row for row in line if row.priority == line[0].priority]
    if not line:
        return
    unit.hold(line)
    share = -(-free // len(line))
    executions = [row.id for row in line]
    for row in unit.take(sql.ready_tasks(unit.cursor, executions, now=unit.now, share=share, queues=wanted.queues)):
        if len(taken) < wanted.slots:
            _take(unit, row.execution_id, row.state.step_id, wanted, taken)
    # An execution that stands in line without a task to claim gets its true place.
    for identity in executions:
        unit.held[identity].claimed = unit.held[identity].dirty = True


def _take(unit: Unit, execution: UUID, step: str, wanted: Wanted, taken: list[tuple[UUID, str]]) -> None:
    held = unit.held[execution]
    task = held.tasks[step]
    if task.status not in CLAIMABLE or task.ready_at is None or task.ready_at > unit.now:
        return
    if wanted.queues is not None and task.queue not in wanted.queues:
        return
    claim = Claimed(step_id=step, owner=wanted.owner, lease_expires_at=lease_until(unit.now, wanted.lease_seconds))
    if isinstance(unit.happen(execution, claim), Accept):
        held.claimed = True
        taken.append((execution, step))


def _resolve(unit: Unit, taken: Sequence[tuple[UUID, str]]) -> tuple[ClaimedTask, ...]:
    """The claimed tasks with their `${…}` replaced; one whose expressions fail ends here, and so does its attempt."""
    if not taken:
        return ()
    needed = []
    for execution, step in taken:
        spec = unit.spec(execution, step)
        needed += [(execution, read) for read in spec.reads]
        needed += [(execution, read) for read in spec.depends_on] if spec.takes_stdin else []
    unit.read_outputs(needed)
    claimed = []
    for execution, step in taken:
        held, spec = unit.held[execution], unit.spec(execution, step)
        task = held.tasks[step]
        try:
            config = render(spec.config, context_of(unit.snapshot(execution))) if spec.config else {}
        except ExpressionError as wrong:
            error = {"type": "invalid", "message": str(wrong), "retryable": False}
            unit.happen(execution, Failed(step_id=step, fence=task.fence, error=error))
            continue
        assert task.lease_expires_at is not None  # noqa: S101 (a claim sets it)
        claimed.append(
            ClaimedTask(
                task_id=held.task_id(step),
                fence=task.fence,
                execution_id=execution,
                workflow_slug=slug_of(held.row.workflow_id),
                step_id=step,
                kind=spec.kind,
                config=config,
                stdin=_stdin(held.outputs, spec.depends_on) if spec.takes_stdin else b"",
                timeout_seconds=spec.timeout_seconds,
                lease_expires_at=task.lease_expires_at,
                trace_id=held.row.trace_id,
            )
        )
    return tuple(claimed)


def _stdin(outputs: Any, depends_on: Sequence[str]) -> bytes:
    """What a command reads: its single dependency's standard output (or outputs as JSON), or one object of several."""

    def one(step: str) -> Any:
        left = outputs.get(step) or {}
        return left["stdout"] if isinstance(left.get("stdout"), str) else left

    if not depends_on:
        return b""
    piped = one(depends_on[0]) if len(depends_on) == 1 else {step: one(step) for step in depends_on}
    text = piped if isinstance(piped, str) else json.dumps(piped, ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


# --- the end ----------------------------------------------------------------------------------------------------------


def _write_logs(unit: Unit, reports: Sequence[Report], answers: Sequence[Decision]) -> None:
    """Keep the log lines of every report whose lease held (a repeated one wrote its lines the first time)."""
    rows = [
        (report.task_id, report.happening.fence, line.number, line.stream, line.text)
        for report, answer in zip(reports, answers, strict=True)
        if isinstance(answer, Accept) or (isinstance(answer, Ignore) and isinstance(report.happening, Progressed))
        for line in report.logs
    ]
    sql.insert_logs(unit.cursor, rows, at=unit.now)


def _announce(unit: Unit) -> bool:
    grown = [identity for identity, held in unit.held.items() if held.facts]
    more = unit.line_goes_on or any(
        held.row.state.ready_at is not None and held.row.state.ready_at <= unit.now for held in unit.held.values()
    )
    ended = [h for h in unit.held.values() if h.facts and h.row.state.status in TERMINAL]
    if grown or more:
        signals.announce(executions=grown, closed=tuple(closed(h.row) for h in ended), ready=more)
    return more


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
    )


__all__ = ["ClaimedTask", "LogLine", "Report", "Turn", "Wanted", "closed", "turn"]
