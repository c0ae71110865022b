"""What one transaction has read of some executions, and what it will write: between their courses and the rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from apps.core.clock import carried_now
from apps.workflows.engine.course import Course
from apps.workflows.engine.graph import Graph, StepSpec
from apps.workflows.engine.ids import item_of, item_ordinal, step_of, task_id
from apps.workflows.engine.states import TERMINAL
from apps.workflows.engine.types import Decision, Fact, Happening, TaskState
from apps.workflows.selectors.environment import allowed_environment
from apps.workflows.selectors.estimates.weights import weights_of
from apps.workflows.selectors.graphs import graph_of
from apps.workflows.services.ledger import children, kept, results, sql


class Held(Course):
    """One execution under its lock: its course, and how it was read.

    What it knows when its transaction is committed holds for as long as the execution's revision does: so whoever
    writes it again may go on from there (`settle`, `go_on`).
    """

    def __init__(self, unit: "Unit", row: sql.ExecutionRow) -> None:
        graph = graph_of(row.version_id)
        super().__init__(
            graph,
            row.state,
            _Rows(self),
            now=unit.now,
            inputs=self._read_inputs,
            environment=allowed_environment(),
            weights=weights_of(row.workflow_id, row.id, graph) if graph.steps else None,
        )
        self.unit = unit
        self.row = row
        self.had_ready = row.state.ready_at is not None  # others of its tasks could be claimed before this transaction
        self.as_read: dict[str, TaskState] = {}  # the tasks that are rows already
        self.claimed = False
        self.dirty = row.birth is not None
        self.undisturbed = True  # while it was known here nobody else has written it
        self._ids: dict[str, UUID] = {}

    def settle(self) -> None:
        """Its transaction is committed: keep what is not over, forget what was of this transaction only."""
        row = self.row
        row.revision += 1 if self.dirty else 0
        row.was, row.birth = row.state, None
        for name in self.changed:
            task = self.tasks[name]
            if task.status in TERMINAL:
                del self.tasks[name]
                self.as_read.pop(name, None)
                self._ids.pop(name, None)
            else:
                self.tasks[name] = self.as_read[name] = task if task.outputs is None else task._replace(outputs=None)
        self.forget()
        self.claimed = self.dirty = False

    def go_on(self, unit: "Unit") -> None:
        """Another transaction begins with what is known."""
        self.unit, self.now = unit, unit.now
        self.had_ready = self.state.ready_at is not None
        self.undisturbed = True  # a stranger's change is in the past

    def _read_inputs(self) -> Mapping[str, Any]:
        return self.row.birth.inputs if self.row.birth else kept.inputs_of(self.unit.cursor, self.row.id)

    def accept(self, decision: Decision) -> Decision:
        """As every course; and the row is to be written."""
        before = self.state
        super().accept(decision)
        self.dirty = self.dirty or self.state is not before or bool(self.changed)
        return decision

    def told_parent(self) -> None:
        """The task that waited for this execution knows of its end."""
        self.state = self.state._replace(owes_parent=False)
        self.dirty = True

    def take(self, rows: Iterable[sql.TaskRow]) -> None:
        """Take in tasks as their rows tell them."""
        for row in rows:
            name = row.state.step_id
            self._ids[name] = row.id
            self.as_read.setdefault(name, row.state)
            self.tasks.setdefault(name, row.state)

    def task_id(self, name: str) -> UUID:
        """The id of a task by its name."""
        if name not in self._ids:
            known = self.tasks.get(name)
            self._ids[name] = task_id(self.row.id, known.ordinal) if known else id_of(self.row.id, self.graph, name)
        return self._ids[name]

    def changes(self) -> Iterator[sql.Change]:
        """The tasks that are to be written."""
        for name in self.changed:
            before = self.as_read.get(name)
            item = self.items.get(name) if before is None or name in self.listed else None
            yield sql.Change(self.task_id(name), self.row.id, self.tasks[name], before, item)

    def number_facts(self) -> Iterator[tuple[UUID, int, Fact]]:
        """Its new journal lines with their numbers."""
        for fact in self.facts:
            self.row.seq += 1
            yield self.row.id, self.row.seq, fact


def id_of(execution: UUID, graph: Graph, name: str) -> UUID:
    """The id of a task by its name. Raises KeyError for a step that the graph does not have."""
    step, item = graph.steps[step_of(name)].ordinal, item_of(name)
    return task_id(execution, step if item is None else item_ordinal(step, item))


class _Rows:
    """The rows of one execution, as its course asks for them (`engine.course.Store`)."""

    def __init__(self, held: Held) -> None:
        self._held = held

    @property
    def _cursor(self) -> sql.Cursor:
        return self._held.unit.cursor

    def _ids(self, names: Iterable[str]) -> dict[UUID, str]:
        return {self._held.task_id(name): name for name in names}

    def tasks(self, names: Iterable[str]) -> Iterable[TaskState]:
        """Those of these tasks that are rows."""
        rows = sql.tasks(self._cursor, self._ids(names))
        self._held.take(rows)
        return [row.state for row in rows]

    def outputs(self, names: Iterable[str]) -> Mapping[str, Any]:
        """What these tasks left behind."""
        ids = self._ids(names)
        return {ids[identity]: left for identity, left in sql.outputs(self._cursor, ids).items()}

    def items(self, names: Iterable[str]) -> Mapping[str, Any]:
        """What these tasks are about."""
        ids = self._ids(names)
        return {ids[identity]: item for identity, item in sql.items(self._cursor, ids).items()}

    def list_of(self, step: str) -> Sequence[Any]:
        """The list of an opened step."""
        return kept.list_of(self._cursor, self._held.task_id(step))

    def signals(self) -> Mapping[str, Any]:
        """The signals that have come."""
        return sql.signals(self._cursor, self._held.row.id)

    def result(self, digest: str) -> tuple[Any, str] | None:
        """A kept result."""
        return results.find(self._held.row.workflow_id, digest, now=self._held.now)

    def keep(self, digest: str, outputs: Any, ttl: float) -> None:
        """Keep a result."""
        results.keep(self._held.row, digest, outputs, until=self._held.now + timedelta(seconds=ttl))

    def start_child(self, name: str, config: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Start another workflow as this task."""
        return children.start_child(self._held.unit, self._held, name, config)


class Unit:
    """A unit of work over locked executions. Decisions go in, one set of statements comes out at `flush`."""

    def __init__(self, cursor: sql.Cursor, *, locks: bool = True) -> None:
        self.cursor = cursor
        self.now = carried_now()
        self.held: dict[UUID, Held] = {}
        self._locks = locks  # before it writes; else with it
        self.looked = True  # at the line, where that was wanted
        self.put_off = False  # some that stood in line were told to come later
        self.line_goes_on = False  # more executions may stand in line than were looked at

    @classmethod
    def of(cls, cursor: sql.Cursor, executions: Iterable[UUID], known: Mapping[UUID, Held] | None = None) -> "Unit":
        """A unit over these executions, locked all at once in the order of their ids. Others may follow by `hold`.

        What is `known` of those that nobody else has written since is taken over.
        """
        known = known or {}
        rows, unchanged = sql.lock_executions(cursor, executions, {i: held.row.revision for i, held in known.items()})
        unit = cls(cursor)  # its time is not before the locks
        unit.hold(rows)
        for identity in known.keys() & unit.held.keys():
            unit.held[identity].undisturbed = False
        unit._go_on(known[identity] for identity in unchanged)
        return unit

    @classmethod
    def at_once(cls, cursor: sql.Cursor, known: Mapping[UUID, Held]) -> "Unit":
        """A unit without a transaction: what it writes is one statement, which locks and compares before it writes."""
        unit = cls(cursor, locks=False)
        unit._go_on(known.values())
        return unit

    def _go_on(self, known: Iterable[Held]) -> None:
        for held in known:
            held.go_on(self)
            self.held[held.row.id] = held

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

    def flush(
        self, logs: Iterable[tuple[UUID, int, int, str, str]] = (), ahead: Iterable[tuple[UUID, str]] = ()
    ) -> None:
        """Write everything, and these log lines (task, fence, number, stream, text).

        The tasks `ahead`, by execution and name, are those that will be asked for next: they are read where that costs
        nothing.
        """
        dirty = [held for held in self.held.values() if held.dirty]
        self._mend_the_line(dirty)
        for held in dirty:
            held.row.state = held.state
        batch = sql.Batch(
            at=self.now,
            executions=[held.row for held in dirty],
            tasks=[change for held in dirty for change in held.changes()],
            events=[line for held in dirty for line in held.number_facts()],
            logs=list(logs),
        )
        unknown = [
            self.held[execution].task_id(name) for execution, name in ahead if name not in self.held[execution].tasks
        ]
        self.take(sql.write(self.cursor, batch, ahead=unknown, lock=not self._locks))
        children.follow_up(held for held in dirty if held.facts and held.state.status in TERMINAL)

    def next_due(self) -> datetime | None:
        """The soonest moment at which the engine has to act on a task that was changed."""
        changed = (held.tasks[name].due_at for held in self.held.values() for name in held.changed)
        return min((moment for moment in changed if moment is not None), default=None)

    def _mend_the_line(self, dirty: Iterable[Held]) -> None:
        """Give executions of which something was claimed their new place in the line: behind those that waited."""
        for held in dirty:
            if not held.claimed or held.state.ready_at is None:
                continue
            moments = [task.ready_at for task in held.tasks.values() if task.ready_at is not None]
            if held.had_ready:
                # Of those that are known here it is known better than the rows tell.
                others = sql.next_ready(self.cursor, held.row.id, map(held.task_id, held.tasks))
                moments += [others] if others else []
            moment = min(moments, default=None)
            held.state = held.state._replace(ready_at=moment and max(moment, self.now))


@contextmanager
def unit_of(executions: Iterable[UUID], known: Mapping[UUID, Held] | None = None) -> Iterator[Unit]:
    """One transaction over these executions, locked in the order of their ids.

    Committed when the block ends; `flush` is the caller's. Raises `sql.FencedError` when a row was not as it had been
    read.
    """
    with transaction.atomic(), sql.statements() as cursor:
        yield Unit.of(cursor, executions, known)


def lease_until(now: datetime, seconds: float) -> datetime:
    """The deadline of a lease given now, in database time."""
    return now + timedelta(seconds=seconds)
