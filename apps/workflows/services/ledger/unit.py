"""What one transaction has read of some executions, and what it will write: between `decide` and the rows."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from apps.workflows.engine.decide import decide
from apps.workflows.engine.graph import Graph, StepSpec
from apps.workflows.engine.ids import task_id
from apps.workflows.engine.states import TERMINAL
from apps.workflows.engine.types import Accept, Closing, Decision, Fact, Happening, Settled, Snapshot, TaskState
from apps.workflows.selectors.environment import allowed_environment
from apps.workflows.selectors.graphs import graph_of
from apps.workflows.services.ledger import sql


@dataclass(slots=True)
class _Held:
    """One execution under its lock, with the tasks of it that were read."""

    row: sql.ExecutionRow
    graph: Graph
    tasks: dict[str, TaskState] = field(default_factory=dict)
    read_fence: dict[str, int] = field(default_factory=dict)  # by step, of tasks that are rows already
    outputs: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    facts: list[Fact] = field(default_factory=list)
    became_ready: list[str] = field(default_factory=list)
    had_ready: bool = False  # others of its tasks could be claimed before this transaction
    parsed_inputs: Mapping[str, Any] | None = None
    claimed: bool = False
    dirty: bool = False

    @property
    def inputs(self) -> Mapping[str, Any]:
        if self.parsed_inputs is None:
            self.parsed_inputs = sql.json_out(self.row.inputs)
        return self.parsed_inputs or {}

    def task_id(self, step: str) -> UUID:
        known = self.tasks.get(step)
        return task_id(self.row.id, known.ordinal if known else self.graph.steps[step].ordinal)


class Unit:
    """A unit of work over locked executions. Decisions go in, one set of statements comes out at `flush`."""

    def __init__(self, cursor: sql.Cursor, now: datetime) -> None:
        self.cursor = cursor
        self.now = now
        self.held: dict[UUID, _Held] = {}
        self.written: list[sql.Written | None] = []
        self.line_goes_on = False  # more executions may stand in line than were looked at

    @classmethod
    def of(cls, cursor: sql.Cursor, executions: Iterable[UUID]) -> "Unit":
        """A unit over these executions, locked all at once in the order of their ids; others may follow by `hold`."""
        rows, now = sql.lock_and_look_at_the_clock(cursor, executions)
        unit = cls(cursor, now)
        unit.hold(rows)
        return unit

    # -- reading -----------------------------------------------------------------------------------------------------

    def hold(self, rows: Iterable[sql.ExecutionRow]) -> None:
        """Take in executions that were read under their locks."""
        for row in rows:
            if row.id not in self.held:
                self.held[row.id] = _Held(
                    row=row, graph=graph_of(row.version_id), had_ready=row.state.ready_at is not None
                )

    def take(self, rows: Iterable[sql.TaskRow]) -> list[sql.TaskRow]:
        """Take in tasks of held executions; what is known already stays as this transaction has changed it."""
        taken = []
        for row in rows:
            held = self.held[row.execution_id]
            if row.state.step_id not in held.tasks:
                held.tasks[row.state.step_id] = row.state
                held.read_fence[row.state.step_id] = row.state.fence
            taken.append(row)
        return taken

    def read(self, steps: Iterable[tuple[UUID, str]]) -> None:
        """Read tasks by execution and step, those not known yet, in one statement."""
        wanted = {
            self.held[execution].task_id(step)
            for execution, step in steps
            if execution in self.held and step not in self.held[execution].tasks
        }
        self.take(sql.tasks(self.cursor, wanted))

    def read_outputs(self, wanted: Iterable[tuple[UUID, str]]) -> None:
        """Read what steps left behind, where it is not known yet."""
        where: dict[UUID, tuple[_Held, str]] = {}
        for execution, step in wanted:
            held = self.held[execution]
            if step in held.outputs:
                continue
            task = held.tasks.get(step)
            if task is not None and task.outputs is not None:
                held.outputs[step] = task.outputs
            else:
                where[held.task_id(step)] = (held, step)
        found = sql.outputs(self.cursor, where)
        for identity, (held, step) in where.items():
            held.outputs[step] = found.get(identity, {})

    def snapshot(self, execution: UUID) -> Snapshot:
        """What `decide` may see of an execution."""
        held = self.held[execution]
        return Snapshot(
            graph=held.graph,
            execution=held.row.state,
            tasks=held.tasks,
            inputs=held.inputs,
            outputs=held.outputs,
            environment=allowed_environment(),
        )

    # -- deciding ----------------------------------------------------------------------------------------------------

    def happen(self, execution: UUID, happening: Happening) -> Decision:
        """Decide, take in what was accepted, and follow it up until nothing more follows."""
        decision = self._apply(execution, happening)
        if isinstance(decision, Accept):
            self.follow(execution, decision.settled)
        return decision

    def follow(self, execution: UUID, settled: Iterable[str]) -> None:
        """Tell the dependants of tasks that have ended, theirs if they ended by it, and close what has nothing open."""
        held = self.held[execution]
        waiting = list(settled)
        while waiting:
            graph = held.graph
            dependants = [d for step in waiting for d in graph.dependants.get(step, ())]  # a tracker's steps have none
            self.read((execution, dependant) for dependant in dependants)
            self.read_outputs(
                (execution, step)
                for dependant in dependants
                if graph.steps[dependant].when is not None
                for step in graph.steps[dependant].reads
            )
            more: list[str] = []
            for step in waiting:
                if not graph.dependants.get(step):
                    continue
                decision = self._apply(execution, Settled(step_id=step))
                if isinstance(decision, Accept):
                    more += decision.settled
            waiting = more
        if held.row.state.open_tasks == 0 and held.row.state.status not in TERMINAL:
            self._close(execution)

    def _close(self, execution: UUID) -> None:
        held = self.held[execution]
        if not held.row.state.failed_tasks and not held.row.state.cancel_requested_at:
            self.read_outputs((execution, step) for step in held.graph.output_reads)
        self._apply(execution, Closing())

    def _apply(self, execution: UUID, happening: Happening) -> Decision:
        return self.accept(execution, decide(self.snapshot(execution), happening, self.now))

    def accept(self, execution: UUID, decision: Decision) -> Decision:
        """Take in what was decided; anything but an `Accept` changes nothing."""
        held = self.held[execution]
        if isinstance(decision, Accept):
            held.row.state = decision.execution
            held.dirty = True
            for task in decision.tasks:
                before = held.tasks.get(task.step_id)
                held.tasks[task.step_id] = task
                held.changed.add(task.step_id)
                if (
                    task.ready_at is not None
                    and task.ready_at <= self.now
                    and (before is None or before.ready_at is None)
                ):
                    held.became_ready.append(task.step_id)
            held.facts += decision.facts
        return decision

    def spec(self, execution: UUID, step: str) -> StepSpec:
        """A step's rules."""
        return self.held[execution].graph.steps[step]

    # -- writing -----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write everything; `check` is to follow before the commit."""
        dirty = [held for held in self.held.values() if held.dirty]
        written, new = [], []
        for held in dirty:
            for step in held.changed:
                state, identity = held.tasks[step], held.task_id(step)
                if step in held.read_fence:
                    written.append((identity, state, held.read_fence[step]))
                else:
                    new.append(sql.TaskRow(id=identity, execution_id=held.row.id, state=state))
        tasks = sql.write_tasks(self.cursor, written)
        sql.insert_tasks(self.cursor, new)
        self._mend_the_line(dirty)
        numbered: list[tuple[UUID, int, Fact]] = []
        for held in dirty:
            for fact in held.facts:
                held.row.seq += 1
                numbered.append((held.row.id, held.row.seq, fact))
        sql.insert_events(self.cursor, numbered, at=self.now)
        executions = sql.write_executions((held.row for held in dirty), at=self.now)
        self.written += [tasks, executions]

    def check(self) -> None:
        """Raise `sql.FencedError` when a row was not as it had been read."""
        sql.check_written(self.written)

    def _mend_the_line(self, dirty: Iterable[_Held]) -> None:
        """Give executions of which something was claimed their new place in the line: behind those that waited."""
        unsure = []
        for held in dirty:
            if not held.claimed or held.row.state.ready_at is None:
                continue
            left = [
                s for s in held.became_ready if (t := held.tasks[s]).ready_at is not None and t.ready_at <= self.now
            ]
            later = any(task.ready_at is not None and task.ready_at > self.now for task in held.tasks.values())
            if held.had_ready or left or later:
                unsure.append(held)
            else:
                held.row.state = replace(held.row.state, ready_at=None)
        if unsure:
            moments = sql.next_ready(self.cursor, (held.row.id for held in unsure))
            for held in unsure:
                moment = moments.get(held.row.id)
                held.row.state = replace(held.row.state, ready_at=None if moment is None else max(moment, self.now))

    def soonest(self) -> datetime | None:
        """When the next task of the held executions may start."""
        return min((h.row.state.ready_at for h in self.held.values() if h.row.state.ready_at), default=None)


@contextmanager
def unit_of(executions: Iterable[UUID]) -> Iterator[Unit]:
    """One transaction over these executions, locked in the order of their ids; committed when the block ends.

    `flush` is the caller's. Raises `sql.FencedError` when a row was not as it had been read.
    """
    with transaction.atomic():
        with sql.pipelined() as cursor:
            unit = Unit.of(cursor, executions)
            yield unit
        unit.check()


def lease_until(now: datetime, seconds: float) -> datetime:
    """The deadline of a lease given now, in database time."""
    return now + timedelta(seconds=seconds)
