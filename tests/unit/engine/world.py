"""Executions in memory, to whom anything may happen: what the random histories are made of."""

import random
from datetime import UTC, datetime, timedelta

from apps.workflows.engine.graph import CachePolicy, Concurrency, Graph, Rate, RetryPolicy, StepSpec
from apps.workflows.engine.ids import item_of, step_of
from apps.workflows.engine.states import Status
from apps.workflows.engine.types import (
    Accept,
    Claimed,
    Completed,
    Decided,
    Deferred,
    Failed,
    Lost,
    PauseRequested,
    Progressed,
    Released,
    ResumeRequested,
    Signalled,
    Stopped,
    StopRequested,
)
from apps.workflows.testing.memory import Memory, MemoryExecution, Origin

START = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=30)
SIGNALS = ("go", "stop")
WAITS = (
    {"seconds": 5}, {"seconds": 500}, {"signal": "go"}, {"signal": "go"}, {"signal": "stop"},
    {"until": "2026-01-01T00:01:00Z"}, {"until": "2026-01-01T00:01:00"}, {"until": "tomorrow"},
)  # fmt: skip


def graph_of(*steps, outputs=(), **values):
    """A graph from (id, depends_on, keywords) triples."""
    specs = {}
    for ordinal, (identity, depends_on, keywords) in enumerate(steps, start=1):
        fixed = {"id": identity, "ordinal": ordinal, "name": identity, "depends_on": tuple(depends_on)}
        specs[identity] = StepSpec(**{"kind": "python", "config": {}, **fixed, **keywords})
    return Graph(steps=specs, outputs=outputs, **values)


def random_graph(rng: random.Random, *, most: int = 9) -> Graph:
    steps = []
    for number in range(rng.randint(1, most)):
        earlier = [step[0] for step in steps]
        depends_on = rng.sample(earlier, rng.randint(0, min(3, len(earlier))))
        steps.append((f"s{number}", depends_on, random_step(rng, depends_on)))
    last = steps[-1][0]
    outputs = rng.choice([(), (), (("all", f"${{steps.{last}.outputs}}"),), (("no", f"${{steps.{last}.outputs.no}}"),)])
    limit = Concurrency(key="${inputs.n}", limit=1, on_conflict="queue") if rng.random() < 0.1 else None
    return graph_of(
        *steps,
        outputs=outputs,
        output_reads=frozenset({last}) if outputs else frozenset(),
        timeout_seconds=rng.choice([None, None, None, 500]),
        concurrency=limit,
    )


def random_step(rng: random.Random, depends_on: list[str]) -> dict:
    policy = RetryPolicy(
        retries=rng.choice([0, 0, 1, 3]),
        delay=rng.choice([0, 1, 60]),
        backoff=rng.choice([1, 2]),
        jitter=rng.random() < 0.3,
        lost=rng.choice([0, 1, 3]),
    )
    whens = [None] * 8 + ["${true}", "${false}", "${inputs.absent}"]
    keywords = {
        "on": rng.choice(["success", "success", "success", "failure", "always"]),
        "retry": policy,
        "allow_failure": rng.random() < 0.2,
        "when": rng.choice(whens),
        "timeout_seconds": rng.choice([None, 30, 300]),
        "queue_timeout_seconds": rng.choice([None, None, None, 100]),
        "total_timeout_seconds": rng.choice([None, None, None, 200]),
    }
    reads = set()
    if rng.random() < 0.4:
        lists = [[], [1], [1, 2, 3], list("abcdefg"), list("abcdefg"), "${inputs.list}", "${inputs.absent}", "no list"]
        if depends_on:
            lists += [f"${{steps.{depends_on[0]}.outputs}}", f"${{steps.{depends_on[0]}.outputs.list}}"] * 2
        keywords |= {"for_each": rng.choice(lists), "max_parallel": rng.choice([1, 2, 1000])}
        if "steps." in keywords["for_each"]:
            reads.add(depends_on[0])
    kind = rng.choice(["python"] * 6 + ["wait", "approval", "workflow"])
    if kind == "wait":
        keywords["config"] = rng.choice(WAITS)
    elif kind == "approval":
        timeout = rng.choice([{}, {"timeout_seconds": 60}])
        keywords["config"] = {"on_timeout": rng.choice(["approve", "reject", "fail"]), **timeout}
    elif kind == "workflow":
        keywords["config"] = {"id": rng.choice(["small", "ends-at-once", "unknown"])}
    elif rng.random() < 0.2:
        keys = ["one", "${inputs.n}", "${item}"] + [f"${{steps.{depends_on[0]}.outputs.n}}" for _ in depends_on[:1]]
        key = rng.choice(keys)
        reads |= {depends_on[0]} if "steps." in key else set()
        keywords["cache"] = CachePolicy(key=key, ttl=rng.choice([50, 5000]), definition="d")
    if kind == "python" and rng.random() < 0.15:
        keywords["rate"] = Rate(name="api", per_minute=rng.choice([1, 60]), burst=rng.choice([1, 3]))
    return {"kind": kind, "reads": frozenset(reads), **keywords}


class World:
    """One execution and its sub-workflows; what happens to them is chosen by `rng`."""

    def __init__(self, graph: Graph, rng: random.Random) -> None:
        self.memory = Memory(start=START)
        self.rng = rng
        self.root = self.start(graph)

    def start(self, graph: Graph, **origin) -> MemoryExecution:
        inputs = {"list": [1, 2], "n": 1}
        origin = Origin(**origin)
        return self.memory.add(graph, workflow="w", inputs=inputs, start_child=self.start_child, origin=origin)

    def start_child(self, parent, name, config):
        if config["id"] == "unknown" or parent.origin.parent is not None:
            return {"type": "workflow", "message": "there is no such workflow", "retryable": self.rng.random() < 0.5}
        never = {"when": "${false}"} if config["id"] == "ends-at-once" else {}
        self.start(graph_of(("a", [], never), ("b", ["a"], {})), parent=parent, parent_task=name)
        return None

    @property
    def now(self) -> datetime:
        return self.memory.now

    def open_executions(self) -> list[MemoryExecution]:
        return [execution for execution in self.memory.executions if not execution.ended]

    def running(self, execution: MemoryExecution) -> list:
        return [t for name in execution.open if (t := execution.all_tasks[name]).status is Status.IN_PROGRESS]

    def claim(self, execution, name):
        with execution.unit(claimed=True) as course:
            return self.take(course, name)

    def take(self, course, name):
        spec = course.graph.steps[step_of(name)]
        if spec.rate is not None and (until := self.memory.take_token(spec.rate)) is not None:
            return course.happen(Deferred(step_id=name, until=until, waiting_for=f"rate:{spec.rate.name}"))
        return course.happen(Claimed(step_id=name, owner="w", lease_expires_at=self.now + LEASE))

    def report(self, task):
        """What may become of an attempt."""
        rng, names = self.rng, {"step_id": task.step_id, "fence": task.fence}
        choice = rng.random()
        if choice < 0.6:
            left = rng.choice([{}, {"n": item_of(task.step_id)}, {"n": 1, "list": [1, 2]}, {"n": 1, "list": [3]}])
            return Completed(**names, outputs=left)
        if choice < 0.8:
            error = {"type": rng.choice(["error", "timeout"]), "message": "no", "retryable": rng.random() < 0.9}
            return Failed(**names, error=error)
        if choice < 0.88:
            return Lost(**names)
        if choice < 0.95:
            return Progressed(**names, percent=rng.uniform(-5, 120), message="on its way")
        return rng.choice([Stopped, Released])(**names)

    def wait(self, seconds) -> None:
        self.memory.now += timedelta(seconds=seconds)


def act_at_random(world: World) -> None:
    """One thing that can happen, lawful or not."""
    rng = world.rng
    opened = world.open_executions()
    execution = rng.choice(opened) if opened else world.root
    running, ready = world.running(execution), execution.ready()
    choice = rng.random()
    if choice < 0.35 and ready:
        for name in rng.sample(ready, min(len(ready), rng.choice([1, 1, 5]))):
            world.claim(execution, name)
    elif choice < 0.68 and running:
        some = rng.sample(running, min(len(running), rng.choice([1, 1, 3])))
        taking = rng.random() < 0.5
        with execution.unit(claimed=taking) as course:  # what gathered is reported together, and what follows is taken
            for task in some:
                report = world.report(task)
                assert isinstance(course.happen(report), Accept) or isinstance(report, Progressed)
            for name in course.became_ready[:2] if taking else ():
                world.take(course, name)
    elif choice < 0.72:
        attack(world, execution)
    elif choice < 0.78 and execution.all_tasks:
        name, yes = rng.choice(list(execution.open) or list(execution.all_tasks)), rng.random() < 0.7
        execution.happen(Decided(step_id=name, approved=yes, by="boss", data={"n": 1}))
    elif choice < 0.81:
        execution.happen(Signalled(name=rng.choice(SIGNALS), payload={"from": "outside"}))
    elif choice < 0.845:
        execution.happen(rng.choice([PauseRequested, ResumeRequested, ResumeRequested])(by="somebody"))
    elif choice < 0.8525:
        execution.happen(StopRequested(status=Status.CANCELLED, by="somebody"))
    elif choice < 0.92:
        world.memory.wake()
        world.memory.follow()
    else:
        world.wait(rng.choice([1, 10, 120]))


def attack(world: World, execution: MemoryExecution) -> None:
    """A zombie, or a repeated report: nothing changes by it."""
    task = world.rng.choice(list(execution.all_tasks.values()))
    stale = max(0, task.fence - world.rng.randint(0, 2))
    if stale == task.fence and task.status is Status.IN_PROGRESS:
        return
    before = (execution.state, dict(execution.all_tasks), len(execution.journal))
    answer = execution.happen(Completed(step_id=task.step_id, fence=stale, outputs={"from": "the dead"}))
    assert not isinstance(answer, Accept), "the dead were heard"
    assert before == (execution.state, execution.all_tasks, len(execution.journal))


def be_patient(world: World) -> None:
    """A performer, a person and a clock that bring every execution to its end."""
    for _ in range(500):
        opened = world.open_executions()
        if not opened:
            return
        for execution in opened:
            execution.happen(ResumeRequested())
            for name in execution.ready():
                world.claim(execution, name)
            if execution.state.ready_at is not None and not execution.ready():
                with execution.unit(claimed=True):
                    pass
            for task in world.running(execution):
                execution.happen(Completed(step_id=task.step_id, fence=task.fence, outputs={"n": 1}))
            for name in list(execution.open):
                task = execution.all_tasks.get(name)
                if task.waiting_for == "approval":
                    execution.happen(Decided(step_id=name, approved=True, by="boss"))
                elif task.waiting_for.startswith("signal:"):
                    execution.happen(Signalled(name=task.waiting_for.removeprefix("signal:"), payload={}))
        world.memory.follow()
        if not world.memory.wake() and (moment := world.memory.next_moment()):
            world.memory.now = moment
    raise AssertionError("it never ends")
