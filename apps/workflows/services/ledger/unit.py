"""What one transaction has read of some executions, and what it will write: between their courses and the rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from apps.workflows.engine.course import Course
from apps.workflows.engine.graph import Graph, StepSpec
from apps.workflows.engine.ids import item_of, item_ordinal, step_of, task_id
from apps.workflows.engine.states import TERMINAL
from apps.workflows.engine.types import Decision, Fact, Happening, TaskState
from apps.workflows.selectors.environment import allowed_environment
from apps.workflows.selectors.graphs import graph_of
from apps.workflows.services.ledger import children, lists, results, sql


class Held(Course):
    """One execution under its lock: its course, and how it was read."""

    def __init__(self, unit: "Unit", row: sql.ExecutionRow) -> None:
        graph = graph_of(row.version_id)
        super().__init__(
            graph,
            row.state,
            _Rows(unit, row, graph),
            now=unit.now,
            inputs=lambda: sql.json_out(row.inputs) or {},
            environment=allowed_environment(),
        )
        self.row = row
        self.had_ready = row.state.ready_at is not None  # others of its tasks could be claimed before this transaction
        self.read_fence: dict[str, int] = {}  # of tasks that are rows already
        self.claimed = False
        self.dirty = False

    def accept(self, decision: Decision) -> Decision:
        """As every course; and the row is to be written."""
        before = self.state
        super().accept(decision)
        self.dirty = self.dirty or self.state is not before or bool(self.changed)
        return decision

    def told_parent(self) -> None:
        """The task that waited for this execution knows of its end."""
        self.state = replace(self.state, owes_parent=False)
        self.dirty = True

    def take(self, rows: Iterable[sql.TaskRow]) -> None:
        """Take in tasks as their rows tell them."""
        for row in rows:
            self.read_fence.setdefault(row.state.step_id, row.state.fence)
            self.known([row.state])

    def task_id(self, name: str) -> UUID:
        """The id of a task by its name."""
        known = self.tasks.get(name)
        return task_id(self.row.id, known.ordinal) if known else _id_of(self.row.id, self.graph, name)


def _id_of(execution: UUID, graph: Graph, name: str) -> UUID:
    step, item = graph.steps[step_of(name)].ordinal, item_of(name)
    return task_id(execution, step if item is None else item_ordinal(step, item))


class _Rows:
    """The rows of one execution, as its course asks for them (`engine.course.Store`)."""

    def __init__(self, unit: "Unit", row: sql.ExecutionRow, graph: Graph) -> None:
        self._unit, self._row, self._graph = unit, row, graph

    def _ids(self, names: Iterable[str]) -> dict[UUID, str]:
        return {_id_of(self._row.id, self._graph, name): name for name in names}

    def tasks(self, names: Iterable[str]) -> Iterable[TaskState]:
        """Those of these tasks that are rows."""
        rows = sql.tasks(self._unit.cursor, self._ids(names))
        self._unit.held[self._row.id].take(rows)
        return [row.state for row in rows]

    def outputs(self, names: Iterable[str]) -> Mapping[str, Any]:
        """What these tasks left behind."""
        ids = self._ids(names)
        return {ids[identity]: left for identity, left in sql.outputs(self._unit.cursor, ids).items()}

    def items(self, names: Iterable[str]) -> Mapping[str, Any]:
        """What these tasks are about."""
        ids = self._ids(names)
        return {ids[identity]: item for identity, item in sql.items(self._unit.cursor, ids).items()}

    def list_of(self, step: str) -> Sequence[Any]:
        """The list of an opened step."""
        return lists.list_of(self._unit.cursor, _id_of(self._row.id, self._graph, step))

    def signals(self) -> Mapping[str, Any]:
        """The signals that have come."""
        return sql.signals(self._unit.cursor, self._row.id)

    def result(self, digest: str) -> tuple[Any, str] | None:
        """A kept result."""
        return results.find(self._row.workflow_id, digest, now=self._unit.now)

    def keep(self, digest: str, outputs: Any, ttl: float) -> None:
        """Keep a result."""
        results.keep(self._row, digest, outputs, until=self._unit.now + timedelta(seconds=ttl))

    def start_child(self, name: str, config: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Start another workflow as this task."""
        return children.start_child(self._unit, self._unit.held[self._row.id], name, config)


class Unit:
    """A unit of work over locked executions. Decisions go in, one set of statements comes out at `flush`."""

    def __init__(self, cursor: sql.Cursor, now: datetime) -> None:
        self.cursor = cursor
        self.now = now
        self.held: dict[UUID, Held] = {}
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
                self.held[row.id] = Held(self, row)

    def take(self, rows: Iterable[sql.TaskRow]) -> list[sql.TaskRow]:
        """Take in tasks of held executions; what is known already stays as this transaction has changed it."""
        taken = list(rows)
        for row in taken:
            self.held[row.execution_id].take([row])
        return taken

    def read(self, names: Iterable[tuple[UUID, str]]) -> None:
        """Read tasks by execution and name, those not known yet, in one statement."""
        wanted = {
            self.held[execution].task_id(name)
            for execution, name in names
            if execution in self.held and name not in self.held[execution].tasks
        }
        self.take(sql.tasks(self.cursor, wanted))

    def read_outputs(self, wanted: Iterable[tuple[UUID, str]]) -> None:
        """Read what steps left behind, where it is not known yet, in one statement."""
        where: dict[UUID, tuple[Held, str]] = {}
        for execution, name in wanted:
            held = self.held[execution]
            if name in held.outputs:
                continue
            task = held.tasks.get(name)
            if task is not None and task.outputs is not None:
                held.outputs[name] = task.outputs
            else:
                where[held.task_id(name)] = (held, name)
        found = sql.outputs(self.cursor, where)
        for identity, (held, name) in where.items():
            held.outputs[name] = found.get(identity, {})

    def happen(self, execution: UUID, happening: Happening) -> Decision:
        """What follows from what happened to an execution, taken in."""
        return self.held[execution].happen(happening)

    def spec(self, execution: UUID, name: str) -> StepSpec:
        """The rules of a task's step."""
        return self.held[execution].graph.steps[step_of(name)]

    # -- writing -----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write everything; `check` is to follow before the commit."""
        dirty = [held for held in self.held.values() if held.dirty]
        written, new = [], []
        for held in dirty:
            for name in held.changed:
                state, identity = held.tasks[name], held.task_id(name)
                if name in held.read_fence:
                    written.append((identity, state, held.read_fence[name]))
                else:
                    new.append(
                        sql.TaskRow(id=identity, execution_id=held.row.id, state=state, item=held.items.get(name))
                    )
            for name in held.listed & held.read_fence.keys():
                sql.write_item(self.cursor, held.task_id(name), held.items[name])
        tasks = sql.write_tasks(self.cursor, written)
        sql.insert_tasks(self.cursor, new)
        self._mend_the_line(dirty)
        numbered: list[tuple[UUID, int, Fact]] = []
        for held in dirty:
            for fact in held.facts:
                held.row.seq += 1
                numbered.append((held.row.id, held.row.seq, fact))
            held.row.state = held.state
        sql.insert_events(self.cursor, numbered, at=self.now)
        executions = sql.write_executions((held.row for held in dirty), at=self.now)
        self.written += [tasks, executions]
        children.follow_up(held for held in dirty if held.facts and held.state.status in TERMINAL)

    def next_due(self) -> datetime | None:
        """The soonest moment at which the engine has to act on a task that was changed."""
        changed = (held.tasks[name].due_at for held in self.held.values() for name in held.changed)
        return min((moment for moment in changed if moment is not None), default=None)

    def check(self) -> None:
        """Raise `sql.FencedError` when a row was not as it had been read."""
        sql.check_written(self.written)

    def _mend_the_line(self, dirty: Iterable[Held]) -> None:
        """Give executions of which something was claimed their new place in the line: behind those that waited."""
        unsure = []
        for held in dirty:
            if not held.claimed or held.state.ready_at is None:
                continue
            ready = [task.ready_at for task in held.tasks.values() if task.ready_at is not None]
            if held.had_ready or ready:
                unsure.append(held)
            else:
                held.state = replace(held.state, ready_at=None)
        if unsure:
            moments = sql.next_ready(self.cursor, (held.row.id for held in unsure))
            for held in unsure:
                moment = moments.get(held.row.id)
                held.state = replace(held.state, ready_at=None if moment is None else max(moment, self.now))


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
