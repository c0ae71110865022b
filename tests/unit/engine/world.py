"""An execution in memory: drives `decide` as the ledger does, without a database, and keeps the journal."""

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from apps.workflows.engine.decide import begin, decide
from apps.workflows.engine.graph import Graph, RetryPolicy, StepSpec
from apps.workflows.engine.states import TERMINAL, Status
from apps.workflows.engine.types import (
    Accept,
    Claimed,
    Closing,
    Completed,
    ExecutionState,
    Fact,
    Failed,
    Lost,
    Progressed,
    Released,
    Settled,
    Snapshot,
    Stopped,
    StopRequested,
    TaskState,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=30)


def graph_of(*steps, outputs=(), **values):
    """A graph from (id, depends_on, keywords) triples."""
    specs = {}
    for ordinal, (identity, depends_on, keywords) in enumerate(steps, start=1):
        specs[identity] = StepSpec(
            id=identity,
            ordinal=ordinal,
            name=identity,
            kind="python",
            config={},
            depends_on=tuple(depends_on),
            **keywords,
        )
    return Graph(steps=specs, outputs=outputs, **values)


def random_graph(rng: random.Random) -> Graph:
    steps = []
    for number in range(rng.randint(1, 9)):
        earlier = [step[0] for step in steps]
        depends_on = rng.sample(earlier, rng.randint(0, min(3, len(earlier))))
        policy = RetryPolicy(
            retries=rng.choice([0, 0, 1, 3]),
            delay=rng.choice([0, 1, 60]),
            backoff=rng.choice([1, 2]),
            jitter=rng.random() < 0.3,
            lost=rng.choice([0, 1, 3]),
        )
        keywords = {
            "on": rng.choice(["success", "success", "success", "failure", "always"]),
            "retry": policy,
            "allow_failure": rng.random() < 0.2,
            "when": rng.choice([None, None, None, "${true}", "${false}", "${inputs.absent}"]),
        }
        steps.append((f"s{number}", depends_on, keywords))
    return graph_of(*steps)


@dataclass
class World:
    graph: Graph
    now: datetime = START
    tasks: dict[str, TaskState] = field(default_factory=dict)
    execution: ExecutionState = field(default_factory=ExecutionState)
    journal: list[Fact] = field(default_factory=list)
    outputs: dict = field(default_factory=dict)
    percents: list[float] = field(default_factory=list)

    def __post_init__(self):
        self.take(begin(self.snapshot(), self.now))

    def snapshot(self, steps=None):
        near = self.tasks if steps is None else {step: self.tasks[step] for step in steps}
        return Snapshot(graph=self.graph, execution=self.execution, tasks=near, outputs=self.outputs)

    def happen(self, event):
        """As the ledger: only the neighbourhood is shown."""
        step = getattr(event, "step_id", None)
        near = None if step is None else [step, *(self.graph.dependants[step] if isinstance(event, Settled) else ())]
        decision = decide(self.snapshot(near), event, self.now)
        if isinstance(decision, Accept):
            self.take(decision)
        return decision

    def take(self, accepted):
        self.execution = accepted.execution
        for task in accepted.tasks:
            self.tasks[task.step_id] = task
            if task.status in TERMINAL:
                self.outputs[task.step_id] = task.outputs or {}
        self.journal += accepted.facts
        self.percents.append(self.execution.percent)
        for step in accepted.settled:
            self.happen(Settled(step_id=step))
        if not self.execution.open_tasks and self.execution.status not in TERMINAL:
            self.happen(Closing())

    # -- what a performer does ---------------------------------------------------------------------------------------

    def ready(self):
        return [t.step_id for t in self.tasks.values() if t.ready_at is not None and t.ready_at <= self.now]

    def running(self):
        return [t for t in self.tasks.values() if t.status is Status.IN_PROGRESS]

    def claim(self, step, owner="w"):
        return self.happen(Claimed(step_id=step, owner=owner, lease_expires_at=self.now + LEASE))

    def complete(self, step, fence=None, **outputs):
        return self.happen(Completed(step_id=step, fence=fence or self.tasks[step].fence, outputs=outputs))

    def fail(self, step, fence=None, **error):
        error = {"type": "error", "message": "no", "retryable": True, **error}
        return self.happen(Failed(step_id=step, fence=fence or self.tasks[step].fence, error=error))

    def lose(self, step):
        return self.happen(Lost(step_id=step, fence=self.tasks[step].fence))

    def progress(self, step, percent, message=""):
        return self.happen(Progressed(step_id=step, fence=self.tasks[step].fence, percent=percent, message=message))

    def cancel(self):
        return self.happen(StopRequested(status=Status.CANCELLED, by="somebody"))

    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)

    def facts(self, step=None):
        return [fact.type for fact in self.journal if step is None or fact.step_id == step]


def act_at_random(world: World, rng: random.Random) -> None:
    """One thing that can happen to an execution, lawful or not."""
    running = world.running()
    choice = rng.random()
    if choice < 0.35 and world.ready():
        world.claim(rng.choice(world.ready()))
    elif choice < 0.55 and running:
        world.complete(rng.choice(running).step_id)
    elif choice < 0.68 and running:
        world.fail(rng.choice(running).step_id, type=rng.choice(["error", "timeout"]), retryable=rng.random() < 0.9)
    elif choice < 0.75 and running:
        world.lose(rng.choice(running).step_id)
    elif choice < 0.83 and running:
        world.progress(rng.choice(running).step_id, rng.uniform(-5, 120), "on its way")
    elif choice < 0.87 and running:
        task = rng.choice(running)
        world.happen(rng.choice([Stopped, Released])(step_id=task.step_id, fence=task.fence))
    elif choice < 0.93:  # a zombie, or a repeated report
        task = rng.choice(list(world.tasks.values()))
        stale = max(0, task.fence - rng.randint(0, 2))
        before = (world.execution, dict(world.tasks), len(world.journal))
        current = stale == task.fence and task.status is Status.IN_PROGRESS
        if not current:
            answer = world.happen(Completed(step_id=task.step_id, fence=stale, outputs={"from": "the dead"}))
            assert not isinstance(answer, Accept)
            assert before == (world.execution, dict(world.tasks), len(world.journal))
    elif choice < 0.94:
        world.cancel()
    else:
        world.wait(rng.choice([1, 10, 120]))


def fold(graph: Graph, journal: list[Fact]) -> dict[str, str]:
    """The statuses that the journal tells of."""
    known = dict.fromkeys(graph.steps, Status.PENDING.value)
    for fact in journal:
        known[fact.step_id] = fact.data["status"]
    return known


def replaced(task: TaskState, **values) -> TaskState:
    return replace(task, **values)
