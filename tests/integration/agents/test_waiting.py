"""Claims that wait: they are woken, bounded, and end with their right; a peer that left has nothing claimed for it."""

import asyncio
import threading
import time

import pytest
from django.db import OperationalError, connections

from apps.agents import ledger, services, waiting
from apps.workflows.models import Performer, Task
from apps.workflows.services import executions
from apps.workflows.services.ledger import lanes

pytestmark = pytest.mark.django_db(transaction=True)

SOON = 60.0  # generous: others load the machine


def in_thread(function, *args, **kwargs):
    def call():
        try:
            return function(*args, **kwargs)
        finally:
            connections.close_all()

    return asyncio.to_thread(call)


@pytest.fixture(autouse=True)
def _fresh_lanes():
    lanes.forget()
    yield
    lanes.forget()


@pytest.fixture
def workflow(make_workflow):
    return make_workflow([{"id": "review", "agent": {"requires": ["kind == reviewer"], "with": {"n": 1}}}])


@pytest.fixture
def reviewer(make_agent):
    return make_agent(labels={"kind": "reviewer"}).agent


async def waited(room, agent, seconds=SOON, most=1):
    return await room.wait(agent, most, seconds)


async def ready(room, count=1):
    while len(room._waiters) < count:
        await asyncio.sleep(0.01)


async def test_it_is_woken_when_there_is_something(workflow, reviewer, owner):
    room = waiting.Room()
    claim = asyncio.create_task(waited(room, reviewer))
    await ready(room)
    began = time.monotonic()
    await in_thread(executions.start, workflow, by=owner)
    (task,) = await claim
    assert (task.step_id, task.config) == ("review", {"n": 1})
    assert time.monotonic() - began < SOON / 2
    await room._running


async def test_it_ends_in_time_with_nothing(workflow, reviewer):
    room = waiting.Room()
    assert await waited(room, reviewer, seconds=0.2) == ()
    await room._running  # with nobody left it listens no more
    assert not room._waiters


async def test_a4_it_ends_within_five_seconds_of_its_right(workflow, reviewer, owner):
    room = waiting.Room()
    claim = asyncio.create_task(waited(room, reviewer, seconds=60.0))
    await ready(room)
    await in_thread(services.change, reviewer, {"disabled": True})
    assert await asyncio.wait_for(claim, SOON) == ()
    await in_thread(executions.start, workflow, by=owner)
    assert await waited(room, reviewer, seconds=3.0) == ()
    await room._running


async def test_what_is_found_for_a_peer_that_left_is_given_back(workflow, reviewer, owner, monkeypatch):
    room = waiting.Room()
    claim = asyncio.create_task(waited(room, reviewer))
    await ready(room)
    found, left = threading.Event(), threading.Event()
    search = waiting._search

    def slow(waiters):
        tasks = search(waiters)
        if tasks:
            found.set()
            assert left.wait(SOON)
        return tasks

    monkeypatch.setattr(waiting, "_search", slow)
    await in_thread(executions.start, workflow, by=owner)
    await asyncio.to_thread(found.wait, SOON)
    claim.cancel()
    await asyncio.gather(claim, return_exceptions=True)
    left.set()
    await room._running
    row = await in_thread(Task.objects.get)
    assert (row.status, row.lease_owner, row.losses, row.fence) == ("pending", "", 0, 1)


async def test_many_wait_at_the_cost_of_one_look(workflow, make_agent, owner):
    """Alike agents find the same: of thirty that wait one takes the task, and the others are asked no question."""
    agents = [await in_thread(lambda: make_agent(labels={"kind": "reviewer"}).agent) for _ in range(30)]
    room = waiting.Room()
    claims = [asyncio.create_task(waited(room, agent, seconds=2 * SOON)) for agent in agents]
    await ready(room, 30)
    threads = threading.active_count()
    await in_thread(executions.start, workflow, by=owner)
    done, others = await asyncio.wait(claims, timeout=SOON, return_when=asyncio.FIRST_COMPLETED)
    assert [len(claim.result()) for claim in done] == [1]
    assert not (await asyncio.wait(others, timeout=2.0))[0]
    assert threading.active_count() <= threads + 2  # no thread each
    for claim in others:
        claim.cancel()
    await asyncio.gather(room._running, *others, return_exceptions=True)


async def test_of_one_agent_a_few_claims_wait_and_the_newest_is_answered_first(workflow, reviewer, owner):
    room = waiting.Room()
    claims = [asyncio.create_task(waited(room, reviewer, seconds=60.0)) for _ in range(200)]
    ended, few = claims[: -waiting.OF_ONE_AGENT], claims[-waiting.OF_ONE_AGENT :]
    assert await asyncio.wait_for(asyncio.gather(*ended), SOON) == [()] * len(ended)
    assert len(room._waiters) == len(few)
    await in_thread(executions.start, workflow, by=owner)
    # The peer of an older one may be gone without a word.
    assert [task.step_id for task in await asyncio.wait_for(few.pop(), SOON)] == ["review"]
    assert not any(claim.done() for claim in few)
    for claim in few:
        claim.cancel()
    await asyncio.gather(room._running, *few, return_exceptions=True)


def a_waiter(agent):
    return waiting._Waiter(agent, 1, None)


def counted(monkeypatch):
    asked = []
    claim = ledger.claim
    monkeypatch.setattr(ledger, "claim", lambda agent, most: asked.append(agent.name) or claim(agent, most))
    return asked


def test_ready_tasks_that_nobody_may_take_cost_no_claim_of_each_who_waits(workflow, make_agent, owner, monkeypatch):
    waiters = [a_waiter(make_agent(labels={"kind": "reviewer"}).agent) for _ in range(20)]
    execution = executions.start(workflow, by=owner)
    executions.pause(execution, by=owner)
    lanes.forget()
    asked = counted(monkeypatch)
    assert waiting._search(waiters) == []
    assert len(asked) <= 1
    executions.resume(execution, by=owner)
    assert len(waiting._search(waiters)) == 1


def test_agents_without_room_cost_no_claim(workflow, make_agent, owner, monkeypatch):
    full = [make_agent(labels={"kind": "reviewer"}) for _ in range(10)]
    for _ in full:
        executions.start(workflow, by=owner)
    lanes.forget()
    for one in full:
        assert len(one.claim()) == 1
    executions.start(workflow, by=owner)
    free = make_agent(labels={"kind": "reviewer"}).agent
    asked = counted(monkeypatch)
    ((waiter, _),) = waiting._search([*(a_waiter(one.agent) for one in full), a_waiter(free)])
    assert (waiter.agent, asked) == (free, [free.name])


def test_what_one_was_given_is_handed_over_though_the_database_goes_away(make_workflow, make_agent, owner, monkeypatch):
    kinds = ("reviewer", "writer")
    one, other = (make_agent(labels={"kind": kind}).agent for kind in kinds)
    for kind in kinds:
        executions.start(make_workflow([{"id": "a", "agent": {"requires": [f"kind == {kind}"]}}]), by=owner)
    lanes.forget()
    claim = ledger.claim

    def away(agent, most):
        if agent == other:
            raise OperationalError("the connection was closed")
        return claim(agent, most)

    monkeypatch.setattr(ledger, "claim", away)
    ((waiter, tasks),) = waiting._search([a_waiter(one), a_waiter(other)])
    assert (waiter.agent, len(tasks)) == (one, 1)
    with pytest.raises(OperationalError):
        waiting._search([a_waiter(other)])


async def test_a_change_of_labels_is_noticed_while_it_waits(make_workflow, make_agent, owner):
    agent = (await in_thread(make_agent)).agent
    room = waiting.Room()
    claim = asyncio.create_task(waited(room, agent, seconds=60.0))
    await ready(room)
    workflow = await in_thread(make_workflow, [{"id": "review", "agent": {"requires": ["kind == reviewer"]}}])
    await in_thread(executions.start, workflow, by=owner)
    await in_thread(services.change, agent, {"labels": {"kind": "reviewer"}})
    assert len(await asyncio.wait_for(claim, SOON)) == 1
    await room._running


async def test_who_waits_is_live(workflow, reviewer):
    room = waiting.Room()
    await in_thread(_silent, reviewer)
    claim = asyncio.create_task(waited(room, reviewer, seconds=2.0))
    await claim
    await room._running
    row = await in_thread(Performer.objects.get, pk=reviewer.performer)
    assert row.seen_at > row.started_at


def _silent(agent):
    from apps.agents import ledger

    ledger.arrive(agent)
