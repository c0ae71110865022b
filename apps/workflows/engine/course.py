"""How one execution unfolds: what happens is decided, taken in, and followed up until nothing more follows.

Between `decide`, which sees a neighbourhood, and whoever keeps the rows: the ledger's transaction, or the harness's
memory. A course lasts as long as one transaction.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from apps.workflows.engine.decide import decide
from apps.workflows.engine.decide.opening import LEAVE
from apps.workflows.engine.graph import Graph, Weights
from apps.workflows.engine.ids import item_name, step_of
from apps.workflows.engine.states import TERMINAL, Status
from apps.workflows.engine.types import (
    Accept,
    ChildEnded,
    Claimed,
    Closing,
    Command,
    Decision,
    Deferred,
    ExecutionState,
    Fact,
    Found,
    Gather,
    Gathered,
    Happening,
    ItemsMade,
    Keep,
    LookUp,
    MakeItems,
    PauseRequested,
    Progressed,
    ResumeRequested,
    Settled,
    Signalled,
    Snapshot,
    StartChild,
    StopRequested,
    TaskState,
)

MAX_GATHERED = 16 * 2**20  # characters of the outputs of a step's items, put together

_OF_ITSELF = (Claimed, Deferred, Progressed)  # of nobody else's concern
_OF_THE_WHOLE = (StopRequested, PauseRequested, ResumeRequested, Signalled, Closing)


class Store(Protocol):
    """Where the rows of one execution are. Names are those of tasks."""

    def tasks(self, names: Iterable[str]) -> Iterable[TaskState]:
        """Those of these tasks that exist."""

    def outputs(self, names: Iterable[str]) -> Mapping[str, Any]:
        """What these tasks left behind, those that left anything."""

    def items(self, names: Iterable[str]) -> Mapping[str, Any]:
        """What these tasks of items are about."""

    def list_of(self, step: str) -> Sequence[Any]:
        """The list of an opened step with `for_each`."""

    def signals(self) -> Mapping[str, Any]:
        """The signals that have come, by name, with their payloads."""

    def result(self, digest: str) -> tuple[Any, str] | None:
        """A kept result: outputs, and which execution left them."""

    def keep(self, digest: str, outputs: Any, ttl: float) -> None:
        """Keep a result for `ttl` seconds."""

    def start_child(self, name: str, config: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Start another workflow as this task; gives the error where it cannot be."""


def neighbours(graph: Graph, name: str, happening: Happening) -> list[str]:
    """The tasks that deciding on `happening`, which is about the task `name`, looks at."""
    step = step_of(name)
    near = [name] if step == name else [name, step]
    if not isinstance(happening, _OF_ITSELF):
        near += graph.dependants.get(step, ())
    return near


class Course:
    """One execution with the tasks of it that were read."""

    def __init__(
        self,
        graph: Graph,
        state: ExecutionState,
        store: Store,
        *,
        now: datetime,
        inputs: Callable[[], Mapping[str, Any]],
        environment: Mapping[str, str],
        weights: Weights | None = None,
    ) -> None:
        self.graph = graph
        self.weights = weights
        self.state = state
        self.now = now
        self._inputs = inputs
        self.environment = environment
        self.tasks: dict[str, TaskState] = {}
        self.outputs: dict[str, Any] = {}
        self.items: dict[str, Any] = {}  # by task: its item; of an opened step: its list
        self.kept: Mapping[str, Any] = {}
        self.changed: dict[str, None] = {}  # in their order, which is mostly that of their rows
        self.listed: set[str] = set()  # steps whose lists were made in this transaction
        self.facts: list[Fact] = []
        self.became_ready: list[str] = []
        self._store = store
        self._signals: Mapping[str, Any] | None = None
        self._commands: list[Command] = []

    def forget(self) -> None:
        """Begin anew with the state and the tasks that are known: what else was read or made is of the past."""
        for gathered in (self.outputs, self.items, self.changed, self.listed):
            gathered.clear()
        self.kept, self.facts, self.became_ready, self._signals = {}, [], [], None

    # -- reading -----------------------------------------------------------------------------------------------------

    def known(self, tasks: Iterable[TaskState]) -> None:
        """Take in tasks that were read; what is known already stays as this transaction has changed it."""
        for task in tasks:
            self.tasks.setdefault(task.step_id, task)

    def read(self, names: Iterable[str]) -> None:
        """Have these tasks read, where they exist."""
        if missing := [name for name in dict.fromkeys(names) if name not in self.tasks]:
            self.known(self._store.tasks(missing))

    def read_outputs(self, names: Iterable[str]) -> None:
        """Have it known what these tasks left behind."""
        missing = []
        for name in dict.fromkeys(names):
            if name in self.outputs:
                continue
            task = self.tasks.get(name)
            if task is not None and task.outputs is not None:
                self.outputs[name] = task.outputs
            else:
                missing.append(name)
        if missing:
            found = self._store.outputs(missing)
            self.outputs.update((name, found.get(name, {})) for name in missing)

    def read_items(self, names: Iterable[str]) -> None:
        """Have it known what these tasks are about, those of them that are items."""
        if missing := [name for name in names if name.endswith("]") and name not in self.items]:
            found = self._store.items(missing)
            self.items.update((name, found.get(name)) for name in missing)  # an item may be null

    def snapshot(self) -> Snapshot:
        """What `decide` may see."""
        return Snapshot(
            graph=self.graph,
            execution=self.state,
            tasks=self.tasks,
            read_inputs=self._inputs,
            outputs=self.outputs,
            environment=self.environment,
            items=self.items,
            signals=self._signals or {},
            kept=self.kept,
            weights=self.weights,
        )

    # -- deciding ----------------------------------------------------------------------------------------------------

    def happen(self, happening: Happening) -> Decision:
        """Decide, take in what was accepted, and follow it up until nothing more follows."""
        self._prepare(happening)
        decision = self._apply(happening)
        if isinstance(decision, Accept):
            if isinstance(happening, Signalled):
                # What opens by it may wait for the very same signal.
                self._signals = {**(self._signals or {}), happening.name: happening.payload}
            self._follow(decision.settled)
        return decision

    def begin(self, first: Accept) -> None:
        """A new execution begins as `first` says."""
        self.accept(first)
        self._follow(first.settled)

    def _prepare(self, happening: Happening) -> None:
        if isinstance(happening, Signalled):
            self._read_signals()
        if isinstance(happening, ResumeRequested):
            kept = [name for name, task in self.tasks.items() if task.waiting_for == LEAVE]
            self.read_outputs(read for name in kept for read in self.graph.steps[step_of(name)].reads)
            self.read_items(kept)
        if isinstance(happening, _OF_THE_WHOLE):
            return
        name = happening.step_id
        self.read(neighbours(self.graph, name, happening))
        spec = self.graph.steps.get(step_of(name))
        if spec is not None and not isinstance(happening, Progressed) and (spec.cache is not None or spec.own):
            self.read_outputs(spec.reads)
            self.read_items([name])

    def _read_signals(self) -> None:
        if self._signals is None:
            self._signals = self._store.signals()

    def _apply(self, happening: Happening) -> Decision:
        return self.accept(decide(self.snapshot(), happening, self.now))

    def accept(self, decision: Decision) -> Decision:
        """Take in what was decided; anything but an `Accept` changes nothing."""
        if isinstance(decision, Accept):
            self.state = decision.execution
            self.items.update(decision.lists)
            self.listed |= decision.lists.keys()
            for task in decision.tasks:
                before = self.tasks.get(task.step_id)
                self.tasks[task.step_id] = task
                self.changed[task.step_id] = None
                if task.ready_at and task.ready_at <= self.now and (before is None or before.ready_at is None):
                    self.became_ready.append(task.step_id)
            self.facts += decision.facts
            self._commands += decision.commands
        return decision

    # -- following up --------------------------------------------------------------------------------------------------

    def _follow(self, settled: Iterable[str]) -> None:
        """Tell those who wait for what has ended, do what is to be done, and close what has nothing open."""
        waiting = list(settled)
        while waiting or self._commands:
            if waiting:
                waiting = self._settle(waiting)
            else:
                commands, self._commands = self._commands, []
                for happening in self._do(commands):
                    decision = self._apply(happening)
                    if isinstance(decision, Accept):
                        waiting += decision.settled
        if self.state.open_tasks == 0 and self.state.status not in TERMINAL:
            if not self.state.failed_tasks and not self.state.cancel_requested_at:
                self.read_outputs(self.graph.output_reads)
            self._apply(Closing())

    def _settle(self, ended: Sequence[str]) -> list[str]:
        """Tell of these ends; gives what ended by it."""
        dependants = self.graph.dependants
        told = [name for name in ended if name.endswith("]") or dependants.get(name)]  # a tracker's steps have none
        near = [d for name in told for d in ([step_of(name)] if name.endswith("]") else dependants[name])]
        self.read(near)
        self.read_outputs(
            read
            for name in near
            if (spec := self.graph.steps[name]).opens_on_outputs and self.tasks[name].status is Status.PENDING
            for read in spec.reads
        )
        if any(self.graph.steps[name].kind == "wait" for name in near):
            self._read_signals()
        more: list[str] = []
        for name in told:
            decision = self._apply(Settled(step_id=name))
            if isinstance(decision, Accept):
                more += decision.settled
        return more

    def _do(self, commands: Sequence[Command]) -> Iterable[Happening]:
        """Carry commands out; gives what happens by it."""
        wanted: dict[str, int] = {}
        for command in commands:
            match command:
                case MakeItems():
                    wanted[command.step_id] = wanted.get(command.step_id, 0) + command.count
                case Gather():
                    yield Gathered(step_id=command.step_id, outputs=self._gather(command.step_id))
                case LookUp():
                    if found := self._store.result(command.digest):
                        yield Found(step_id=command.step_id, outputs=found[0], origin=found[1])
                case Keep():
                    self._store.keep(command.digest, self.tasks[command.step_id].outputs, command.ttl)
                case StartChild():
                    if error := self._store.start_child(command.step_id, command.config):
                        failed = Status.FAILED
                        yield ChildEnded(step_id=command.step_id, status=failed, outputs={}, error=error)
        for step, count in wanted.items():
            yield self._make_items(step, count)

    def _make_items(self, step: str, count: int) -> Happening:
        spec, whole = self.graph.steps[step], self.tasks[step]
        if step not in self.items:
            self.items[step] = self._store.list_of(step)
        if spec.opens_on_outputs:
            self.read_outputs(spec.reads)
            self._read_signals()
        values = self.items[step]
        made: dict[int, Any] = {}
        following = whole.next_item
        while len(made) < count and following < len(values):
            # Items that were kept from another execution have their tasks already.
            some = range(following, min(following + count - len(made), len(values)))
            self.read(item_name(step, number) for number in some)
            made.update((n, values[n]) for n in some if item_name(step, n) not in self.tasks)
            following = some.stop
        self.items.update((item_name(step, number), value) for number, value in made.items())
        return ItemsMade(step_id=step, items=made, next_item=following)

    def _gather(self, step: str) -> Sequence[Any] | None:
        names = [item_name(step, number) for number in range(self.tasks[step].items)]
        own = {name: task.outputs for name in names if (task := self.tasks.get(name)) and task.outputs is not None}
        size = 0
        gathered: list[Any] = []
        for start in range(0, len(names), 500):
            some = names[start : start + 500]
            found = self._store.outputs(name for name in some if name not in own)
            for name in some:
                outputs = own.get(name, found.get(name))
                size += len(str(outputs))
                gathered.append(outputs)
            if size > MAX_GATHERED:
                return None
        return gathered
