"""Circuit breakers between processes, and those that each dependency has: engine, registry, pool of performers."""

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection

from apps.core.clock import database_now
from apps.executors.failure import REGISTRY_UNREACHED
from apps.workflows.engine import graph
from apps.workflows.models import CircuitBreaker, Execution, Performer, Task
from apps.workflows.selectors.estimates.answers import answer
from apps.workflows.selectors.graphs import graph_of
from apps.workflows.selectors.invariants import verdict
from apps.workflows.services import breakers, leases
from apps.workflows.services.ledger import turn
from tests.integration.conftest import noop
from tests.integration.workflows.driver import accepted, claim, done, failed, wanted

pytestmark = pytest.mark.django_db(transaction=True)  # calls are counted after their commit

PROCESSES, ROUNDS = 4, 8
WAREHOUSE = {"name": "warehouse", "failures": 2, "open_seconds": 60}

ASKER = """
import json, os, sys, django
django.setup()
from django.conf import settings
settings.DATABASES["default"]["NAME"] = os.environ["CLAIM_FROM"]
from django.db import connection
connection.settings_dict["NAME"] = os.environ["CLAIM_FROM"]
from tests.integration.workflows.driver import turn, wanted
print("ready", flush=True)
for line in sys.stdin:
    claims, idle = [], 0
    while idle < 4:
        answer = turn([], wanted(4, sys.argv[1]))
        claims += [(str(task.task_id), task.fence) for task in answer.claimed]
        idle = 0 if answer.claimed else idle + 1
    print(json.dumps(claims), flush=True)
"""


@pytest.fixture
def askers():
    """Processes that claim at a word: `ask()` gives what each of them was given."""
    environment = {**os.environ, "CLAIM_FROM": str(connection.settings_dict["NAME"])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ASKER, f"p{number}"], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for number in range(PROCESSES)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout.readline() == "ready\n"

    def ask():
        for process in processes:
            process.stdin.write("now\n")
            process.stdin.flush()
        return [json.loads(process.stdout.readline()) for process in processes]

    yield ask
    for process in processes:
        process.communicate(timeout=60)


def those_who_wait_come():
    now = database_now()
    CircuitBreaker.objects.filter(state="open").update(probe_at=now)
    Task.objects.filter(waiting_for__startswith="breaker:").update(ready_at=now)
    Execution.objects.filter(ready_at__isnull=False).update(ready_at=now, rank=now)


class Probe:
    """What a report needs of a claimed task."""

    def __init__(self, task, fence, step):
        self.task_id, self.fence, self.step_id = UUID(task), fence, step


def test_exactly_one_probe_over_several_processes(run, askers):
    """In many executions, so that no two of them stand in line for the same lock."""
    for _ in range(3 * PROCESSES):
        run([noop("a", circuit_breaker=WAREHOUSE), noop("b", circuit_breaker=WAREHOUSE)])
    accepted(*(failed(task, type="connection") for task in turn([], wanted(2)).claimed))
    assert CircuitBreaker.objects.get().state == "open"
    askers()
    probes = Counter()
    for number in range(ROUNDS):
        those_who_wait_come()
        given = askers()
        found = [(f"p{who}", *one) for who, some in enumerate(given) for one in some]
        assert len(found) == 1, found
        ((who, task, fence),) = found
        probes[who] += 1
        step = Task.objects.get(pk=task).step_id
        probe = Probe(task, fence, step)
        accepted(done(probe) if number == ROUNDS - 1 else failed(probe, type="connection"))
    row = CircuitBreaker.objects.get()
    print(
        f"{connection.vendor}: {PROCESSES} processes, {ROUNDS} half-open moments, probes {dict(probes)}, one each time"
    )
    assert (row.state, row.half_opened_total) == ("closed", ROUNDS)
    assert sum(map(len, askers())) > 1, "the control: once it is closed they are all given work"
    assert not verdict().violations


# --- per dependency ---------------------------------------------------------------------------------------------------


def box(identity, image="ghcr.io/team/tool:1", **values):
    return {"id": identity, "image": image, "command": ["true"], **values}


def names(execution, step):
    return [one.name for one in graph_of(execution.version_id).steps[step].breakers]


def test_each_engine_and_each_registry_has_its_breaker(run):
    execution = run(
        [
            box("ours"),
            box("theirs", "busybox:1.36"),
            box("private", "registry.test:5000/a/b@sha256:00"),
            box("library", "library/python:3"),
            box("chosen", "${item}", for_each=["a"]),
            box("large", queue="gpu"),
            noop("none"),
        ]
    )
    assert {step: names(execution, step) for step in graph_of(execution.version_id).steps} == {
        "ours": ["container-engine", "registry:ghcr.io"],
        "theirs": ["container-engine", "registry:docker.io"],
        "private": ["container-engine", "registry:registry.test:5000"],
        "library": ["container-engine", "registry:docker.io"],
        "chosen": ["container-engine"],
        "large": ["container-engine:gpu", "registry:ghcr.io"],
        "none": [],
    }


def test_the_engines_of_one_queue_that_are_away_keep_no_other_queue_in_line(run):
    run([box("large", queue="gpu", retries=3), box("small")])
    accepted(failed(claim(queues=("gpu",))["large"], type="unavailable"))
    states = dict(CircuitBreaker.objects.values_list("name", "state"))
    assert states == {"container-engine": "closed", "container-engine:gpu": "open", "registry:ghcr.io": "closed"}
    assert list(claim()) == ["small"]


def test_the_estimate_tells_of_an_open_breaker_instead_of_a_time(run, owner):
    execution = run([noop("a", circuit_breaker=WAREHOUSE), noop("b", circuit_breaker=WAREHOUSE), noop("c", "b")])
    now = database_now()
    Performer.objects.create(
        name="w9", kind="worker", slots=4, load=0, labels={}, queues=None, started_at=now, seen_at=now
    )
    breakers.open_("warehouse", by=owner)
    assert not claim()
    told = answer(owner, execution).body
    assert {(one["step_id"], one["code"]) for one in told["blocked_by"]} == {("a", "breaker"), ("b", "breaker")}
    assert told["estimated_remaining_seconds"] is None
    assert "`warehouse`" in told["reason"]
    breakers.reset("warehouse", by=owner)
    assert answer(owner, execution).body["blocked_by"] == []


def unreached(task):
    return failed(task, type="connection", exception=REGISTRY_UNREACHED)


def test_a_registry_that_does_not_answer_opens_its_own_breaker_alone(run):
    assert REGISTRY_UNREACHED == graph.REGISTRY_UNREACHED
    guard = {"name": "warehouse", "failures": 2}
    run([*(box(f"s{n}", circuit_breaker=guard) for n in range(7)), box("theirs", "busybox:1")])
    accepted(*(unreached(task) for name, task in claim(5).items() if name != "theirs"))
    states = dict(CircuitBreaker.objects.values_list("name", "state"))
    assert states.pop("registry:ghcr.io") == "open"
    assert set(states.values()) == {"closed"}
    assert list(claim()) == ["theirs"]


def test_a_pool_whose_performers_die_is_left_alone_where_a_breaker_says_so(run):
    guard = {"name": "gpu-pool", "failures": 2, "on": ["lost", "unavailable"]}
    run([noop(f"s{n}", circuit_breaker=guard) for n in range(4)])
    taken = claim(2)
    Task.objects.filter(pk__in=[task.task_id for task in taken.values()]).update(
        lease_expires_at=database_now() - timedelta(seconds=1)
    )
    assert leases.reap() == 2
    row = CircuitBreaker.objects.get()
    assert (row.state, row.failed_total, row.error_type) == ("open", 2, "lost")
    assert not claim()


def test_without_that_word_a_lost_performer_speaks_neither_way(run):
    run([noop("a", circuit_breaker="warehouse")])
    Task.objects.filter(pk=claim()["a"].task_id).update(lease_expires_at=database_now() - timedelta(seconds=1))
    assert leases.reap() == 1
    breakers.sweep()
    row = CircuitBreaker.objects.get()
    assert (row.state, row.failed_total, row.succeeded_total) == ("closed", 0, 0)
