"""Thousands of random histories: whatever happens in whatever order, the invariants of the engine hold."""

import random

import pytest

from apps.workflows.engine.states import CLAIMABLE, OPEN, TERMINAL, Status
from tests.unit.engine.world import World, act_at_random, fold, random_graph

HISTORIES = 4000
BLOCKS = 8


def check(world: World) -> None:
    execution, tasks = world.execution, world.tasks
    opened = [task for task in tasks.values() if task.status in OPEN]
    assert execution.open_tasks == len(opened)
    assert execution.tasks_total == len(tasks) == len(world.graph.steps)
    assert all(task.lease_expires_at for task in tasks.values() if task.status is Status.IN_PROGRESS)
    assert not any(task.lease_expires_at for task in tasks.values() if task.status is not Status.IN_PROGRESS)
    assert not any(task.ready_at for task in tasks.values() if task.status not in CLAIMABLE)
    # I2: something is ready, running or waiting for a timer as long as the execution is open.
    if execution.status not in TERMINAL:
        assert opened
        assert any(task.ready_at or task.lease_expires_at for task in opened), "an open execution that nobody can move"
        if not execution.cancel_requested_at:
            ready = [task.ready_at for task in opened if task.ready_at]
            assert not ready or execution.ready_at <= min(ready), "its place in the line is too late"
    # I7: percent never falls, and 100 means success.
    assert world.percents == sorted(world.percents)
    assert (execution.percent == 100) == (execution.status is Status.COMPLETED)
    # I6: the journal tells the present state.
    assert fold(world.graph, world.journal).items() >= {
        (step, task.status.value) for step, task in tasks.items() if world.facts(step)
    }
    # I12: after a cancel nothing starts.
    types = world.facts()
    if "execution.cancel_requested" in types:
        assert "task.started" not in types[types.index("execution.cancel_requested") :]


def check_causes(world: World) -> None:
    """I8 and I3, read from the journal alone."""
    ended, attempts = set(), {}
    for fact in world.journal:
        if not fact.step_id:
            continue
        if fact.type == "task.started":
            assert set(world.graph.steps[fact.step_id].depends_on) <= ended, "started before its dependencies had ended"
            assert fact.data["attempt"] == attempts.get(fact.step_id, 0) + 1
            attempts[fact.step_id] = fact.data["attempt"]
        if fact.data["status"] in TERMINAL:
            assert fact.step_id not in ended, "two terminal results"
            ended.add(fact.step_id)
    assert world.facts().count("execution.created") == 1
    assert sum(world.facts().count(f"execution.{status}") for status in TERMINAL) == (
        1 if world.execution.status in TERMINAL else 0
    )


@pytest.mark.parametrize("block", range(BLOCKS))
def test_random_histories_keep_every_invariant(block):
    for number in range(HISTORIES // BLOCKS):
        seed = f"{block}-{number}"
        rng = random.Random(seed)
        world = World(random_graph(rng))
        try:
            for _ in range(rng.randint(5, 80)):
                check(world)
                if world.execution.status in TERMINAL:
                    break
                act_at_random(world, rng)
            finish(world)
            check(world)
            check_causes(world)
            assert world.execution.status in TERMINAL
        except AssertionError as broken:
            raise AssertionError(f"seed {seed}: {broken}") from broken


def finish(world: World) -> None:
    """A patient performer brings every execution to its end."""
    for _ in range(500):
        if world.execution.status in TERMINAL:
            return
        for step in world.ready():
            world.claim(step)
        for task in world.running():
            world.complete(task.step_id)
        world.wait(100_000)
    raise AssertionError("it never ends")
