"""Seeds of the simulation: a few in every run, thousands by `make chaos`. `SIMULATION_SEED=N` replays one."""

import os
import random

import pytest
from django.db import transaction

from apps.workflows.models import Lane
from tests.integration.faults.rows import wipe
from tests.integration.faults.scheduler import Scheduler
from tests.integration.faults.simulation import Simulation, prepare

SEEDS = [int(os.environ["SIMULATION_SEED"])] if "SIMULATION_SEED" in os.environ else range(1, 7)


@pytest.fixture
def simulate(clock, make_user, make_workflow, owner):
    boss = make_user("admin")

    def run(seed, **values):
        clock.advance(-clock.seconds)
        return Simulation(seed, clock, prepare(make_workflow, owner), owner, boss, **values).run()

    return run


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_loses_nothing(simulate, seed):
    result = simulate(seed)
    print(result)
    assert not result.violations, f"SIMULATION_SEED={seed} replays it"
    assert result.counts["commits"] > 100
    assert result.executions > 5


def test_the_same_seed_plays_the_same_history_and_another_does_not(simulate):
    digests = []
    for seed in (7, 7, 8):
        digests.append(simulate(seed, moves=150).digest)
        wipe()
    assert digests[1] != digests[2]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("really", [True, False])
def test_an_actor_that_is_killed_at_its_commit_is_over_and_has_done_it_or_not(clock, really):
    rng = random.Random(1)
    scheduler = Scheduler(rng, clock, {"killed": 1.0})
    went_on = []

    def body(actor):
        with transaction.atomic():
            Lane.objects.create(key="gpu", queue="gpu")
            rng.random = lambda: 0.0 if really else 0.9
        went_on.append(True)

    with scheduler.installed():
        actor = scheduler.spawn("one", body)
        while not actor.over:
            scheduler.step()
        assert (actor.error, went_on, scheduler.counts["killed"]) == (None, [], 1)
        # At once: nothing of it is open any more, nor locked.
        with transaction.atomic():
            assert Lane.objects.select_for_update(nowait=True).filter(key="gpu").count() == really
