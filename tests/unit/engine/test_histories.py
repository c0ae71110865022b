"""Thousands of random histories: whatever happens in whatever order, the invariants of the engine hold."""

import random

import pytest

from apps.workflows.engine.again import kept_for_fork, kept_for_retry
from apps.workflows.engine.ids import item_name, step_of
from apps.workflows.engine.states import CLAIMABLE, OPEN, TERMINAL, Status
from apps.workflows.testing.memory import MemoryExecution
from tests.unit.engine.world import World, act_at_random, be_patient, random_graph

HISTORIES = 4000
BLOCKS = 8
STOPPED = {"execution.cancel_requested", "execution.timeout"}
BAD = (Status.FAILED, Status.TIMED_OUT)


def check(world: World, execution: MemoryExecution) -> None:
    """What must hold between any two transactions."""
    state, tasks, graph = execution.state, execution.all_tasks, execution.graph
    opened = [task for task in tasks.values() if task.status in OPEN]
    assert state.open_tasks == len(opened), "I2: open tasks are miscounted"
    assert state.tasks_total == len(tasks), "I2: tasks are miscounted"
    failed = [
        t for t in tasks.values() if t.status in BAD and not t.is_item and not graph.steps[t.step_id].allow_failure
    ]
    assert state.failed_tasks == len(failed), "failed tasks are miscounted"
    for task in tasks.values():
        check_task(execution, task)
    if execution.ended:
        assert not opened
        assert not (state.ready_at or state.deadline_at or state.held)
    else:
        check_moving(world, execution, opened)
    # I7: percent never falls, and 100 means success.
    percents = [fact.data["overall_percent"] for _, fact in execution.journal] + [state.percent]
    assert percents == sorted(percents), "I7: the percentage fell"
    assert (state.percent == 100) == (state.status is Status.COMPLETED), "I7"
    # I6: the journal tells the present state.
    told = {fact.step_id: fact.data["status"] for _, fact in execution.journal}
    assert told[""] == state.status or state.status in (Status.IN_PROGRESS, Status.PENDING), "I6"
    for name, task in tasks.items():
        assert told.get(name, "pending") == task.status, f"I6: {name} is {task.status}, told {told.get(name)}"


def check_task(execution: MemoryExecution, task) -> None:
    spec = execution.graph.steps[step_of(task.step_id)]
    assert bool(task.lease_expires_at) == (task.status is Status.IN_PROGRESS), f"{task.step_id}: the lease"
    assert not task.ready_at or task.status in CLAIMABLE, f"{task.step_id}: ready and {task.status}"
    assert not (task.ready_at and spec.own), f"{task.step_id}: nobody can claim it"
    if task.status in TERMINAL:
        assert not (task.due_at or task.waiting_for), f"{task.step_id}: ended, and it waits"
        return
    stopping = execution.state.cancel_requested_at is not None
    if not task.is_item and task.status is Status.PENDING and not task.ready_at:
        left = [name for name in spec.depends_on if execution.all_tasks[name].status in OPEN]
        assert task.waiting_on == len(left) > 0, f"{task.step_id}: it waits for {task.waiting_on}, not {left}"
    if task.waiting_for == "items":
        items = [t for n in range(task.items) if (t := execution.all_tasks.get(item_name(task.step_id, n)))]
        open_items = [item for item in items if item.status in OPEN]
        assert open_items, f"{task.step_id}: it waits for items, and none is open"
        assert len(open_items) <= spec.max_parallel, f"{task.step_id}: {len(open_items)} items at once"
        if not stopping:
            good = [item for item in items if item.status in (Status.COMPLETED, Status.SKIPPED)]
            assert task.met == len(good), f"{task.step_id}: good items are miscounted"
            ended = len(items) - len(open_items)
            assert task.waiting_on == task.items - ended, f"{task.step_id}: open items are miscounted"


def check_moving(world: World, execution: MemoryExecution, opened) -> None:
    """I2: an open execution that is not paused can go on."""
    state = execution.state
    assert opened, "I2: open without an open task"
    if state.status is Status.PAUSED:
        assert state.ready_at is None
        return
    children = [c.origin.parent_task for c in world.memory.children_of(execution) if not c.ended or c.state.owes_parent]
    moving = [
        task
        for task in opened
        if task.ready_at or task.lease_expires_at or task.due_at
        or task.waiting_for == "approval" or task.waiting_for.startswith("signal:") or task.step_id in children
    ]  # fmt: skip
    assert moving or state.held, "I2: an open execution that nobody can move"
    for task in opened:
        assert task.waiting_for.removeprefix("signal:") not in execution.came, f"I2: {task.step_id} heard no signal"
        assert task.waiting_for != "execution" or task.step_id in children, f"I2: {task.step_id} waits for no execution"
    if state.cancel_requested_at or state.held:
        assert state.ready_at is None
        return
    ready = [task.ready_at for task in opened if task.ready_at]
    assert not ready or (state.ready_at and state.ready_at <= max(min(ready), world.now)), (
        "its place in line is too late"
    )


def check_causes(execution: MemoryExecution) -> None:
    """I3, I4, I5, I8 and I12, read from the journal alone."""
    ended, attempts, types = set(), {}, []
    for _, fact in execution.journal:
        name = fact.step_id
        assert "" not in ended, f"I5: {fact.type} after the end"
        types.append(fact.type)
        if fact.type == "task.started":
            assert set(execution.graph.steps[step_of(name)].depends_on) <= ended, "I8: it started too early"
            assert fact.data["attempt"] == attempts.get(name, 0) + 1, "I4"
            attempts[name] = fact.data["attempt"]
            assert not {"execution.cancel_requested", "execution.timeout"} & set(types), (
                "I12: it started after a cancel"
            )
        if fact.data["status"] in TERMINAL:
            assert name not in ended, f"I3: two terminal results of {name}"
            ended.add(name)
    assert types.count("execution.created") == 1
    assert ("" in ended) == execution.ended


def check_gathered(execution: MemoryExecution) -> None:
    """The outputs of items, in order; None for those that left none."""
    for spec in execution.graph.steps.values():
        whole = execution.all_tasks[spec.id]
        if spec.for_each is None or spec.id not in execution.left or "task.reused" in told_of(execution, spec.id):
            continue
        items = [item_name(spec.id, number) for number in range(whole.items)]
        assert execution.left[spec.id] == [execution.left.get(name) for name in items]
        good = [execution.all_tasks[name].status is Status.COMPLETED for name in items]
        assert all(good) == (whole.status is Status.COMPLETED), f"{spec.id} is {whole.status}"
        assert [name in execution.left for name in items] == good


def told_of(execution: MemoryExecution, name: str) -> list[str]:
    return [fact.type for _, fact in execution.journal if fact.step_id == name]


def check_all(world: World, ended: dict) -> None:
    for execution in world.memory.executions:
        check(world, execution)
        for name, task in execution.all_tasks.items():
            if task.status in TERMINAL:
                assert ended.setdefault((execution.id, name), task) == task, "I5: terminal is final"


def play(seed: str) -> None:
    rng = random.Random(seed)
    world, ended = World(random_graph(rng), rng), {}
    for generation in range(3):
        for _ in range(rng.randint(5, 80)):
            check_all(world, ended)
            if world.root.ended:
                break
            act_at_random(world)
        be_patient(world)
        check_all(world, ended)
        for execution in world.memory.executions:
            check_causes(execution)
            check_gathered(execution)
        if generation == 2 or rng.random() < 0.6:
            return
        do_again(world, rng)


def do_again(world: World, rng: random.Random) -> None:
    """A retry or a fork: what was kept is not done again, and all else is."""
    old = world.root
    statuses = {name: task.status for name, task in old.all_tasks.items()}
    if rng.random() < 0.5:
        names = kept_for_retry(old.graph, statuses)
    else:
        names = kept_for_fork(old.graph, statuses, rng.choice(list(statuses)))
    assert all(statuses[name] is Status.COMPLETED for name in names)
    kept = {name: old.left.get(name, {}) for name in names}
    world.root = world.start(old.graph, kept=kept)
    for name in names:
        told = told_of(world.root, name)
        assert told in (["task.reused"], []), f"{name} was kept, and told is {told}"


@pytest.mark.parametrize("block", range(BLOCKS))
def test_random_histories_keep_every_invariant(block):
    for number in range(HISTORIES // BLOCKS):
        seed = f"{block}-{number}"
        try:
            play(seed)
        except Exception as broken:
            raise AssertionError(f"seed {seed}: {type(broken).__name__} {broken}") from broken
