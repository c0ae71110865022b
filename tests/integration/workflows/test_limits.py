"""Limits on a real database: executions by key, starts by rate, lanes, results that are used again, fair shares."""

from datetime import timedelta

import pytest

from apps.core.clock import database_now
from apps.core.errors import Conflict
from apps.workflows.models import CachedResult, Execution, Lane, RateLimit, Task
from apps.workflows.selectors.invariants import verdict
from apps.workflows.services import executions, follow, workflows
from apps.workflows.services.ledger import lanes, turn
from tests.integration.conftest import noop
from tests.integration.workflows.driver import (
    accepted,
    check_rows,
    claim,
    done,
    drive,
    failed,
    journal,
    statuses,
    wanted,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _lanes_anew():
    lanes.forget()
    yield
    lanes.forget()


# --- executions by key ------------------------------------------------------------------------------------------------


@pytest.fixture
def limited(make_workflow):
    def make(**values):
        limit = {"key": "k-${inputs.k}", "limit": 1, **values}
        return make_workflow([noop("a")], inputs={"k": {"default": 1}}, concurrency=limit)

    return make


def test_executions_with_a_key_take_turns(limited, owner):
    workflow = limited()
    first, second, third = [executions.start(workflow, by=owner) for _ in range(3)]
    other = executions.start(workflow, by=owner, inputs={"k": 2})
    assert [e.held for e in (first, second, third, other)] == [False, True, True, False]
    running = turn([], wanted()).claimed
    assert {task.execution_id for task in running} == {first.pk, other.pk}
    accepted(*[done(task) for task in running])
    for _ in range(2):
        follow.sweep()
        assert not verdict().violations
        assert Execution.objects.filter(workflow=workflow, held=False, finished_at=None).count() == 1
        drive()
    for execution in (first, second, third, other):
        check_rows(execution)
        assert execution.status == "completed"
    assert "execution.admitted" in journal(third)


def test_a_limit_may_reject(limited, owner):
    workflow = limited(on_conflict="reject")
    executions.start(workflow, by=owner)
    with pytest.raises(Conflict) as refused:
        executions.start(workflow, by=owner)
    assert refused.value.code == "concurrency_limit"
    executions.start(workflow, by=owner, inputs={"k": 2})
    assert Execution.objects.count() == 2


def test_a_newer_one_may_take_the_place_of_the_older(limited, owner):
    workflow = limited(on_conflict="cancel_running")
    first = executions.start(workflow, by=owner)
    running = claim()["a"]
    second = executions.start(workflow, by=owner)
    third = executions.start(workflow, by=owner)
    first.refresh_from_db()
    second.refresh_from_db()
    assert first.cancel_requested_at
    assert (second.status, third.held) == ("cancelled", True)
    accepted(done(running))
    follow.sweep()
    third.refresh_from_db()
    assert not third.held
    drive()
    check_rows(third)
    assert third.status == "completed"


def test_a_slot_never_leaks_however_an_execution_ends(limited, owner):
    workflow = limited()
    for end in range(6):
        execution = executions.start(workflow, by=owner)
        assert not execution.held
        if end % 2:
            executions.cancel(execution, by=owner)
        else:
            drive()
    assert not verdict().violations


# --- starts by rate -------------------------------------------------------------------------------------------------


def test_a_rate_is_shared_by_name_over_workflows(make_workflow, owner):
    rate = {"name": "openai", "per_minute": 60, "burst": 2}
    both = [executions.start(make_workflow([noop(f"s{n}", rate_limit=rate)]), by=owner) for n in range(4)]
    assert len(claim()) == 2
    assert not claim()
    waiting = Task.objects.filter(execution__in=both, status="pending")
    assert {task.waiting_for for task in waiting} == {"rate:openai"}
    now = database_now()
    assert all(now < task.ready_at < now + timedelta(seconds=5) for task in waiting)
    assert not verdict().violations
    RateLimit.objects.update(free_at=now - timedelta(seconds=10))
    Task.objects.filter(status="pending").update(ready_at=now)
    Execution.objects.filter(ready_at__isnull=False).update(ready_at=now, rank=now)
    assert len(claim()) == 2


def test_without_a_burst_they_start_one_by_one(make_workflow, owner):
    step = noop("a", rate_limit={"name": "slow", "per_minute": 6}, for_each=[1, 2, 3])
    execution = executions.start(make_workflow([step]), by=owner)
    assert list(claim()) == ["a[0]"]
    assert not claim()
    later = Task.objects.filter(execution=execution, status="pending", step_id__in=["a[1]", "a[2]"])
    seconds = [(task.ready_at - database_now()).total_seconds() for task in later.order_by("pk")]
    assert 8 < seconds[0] <= 10
    assert 18 < seconds[1] <= 20


# --- lanes ------------------------------------------------------------------------------------------------------------


def test_labels_are_required_and_preferred(make_workflow, owner):
    steps = [noop("any"), noop("gpu", requires=["gpu >= 1"]), noop("near", prefers=["region == eu"])]
    execution = executions.start(make_workflow(steps), by=owner)
    lanes.forget()
    assert set(claim()) == {"any"}
    assert not claim(labels={"gpu": 0})
    assert set(claim(labels={"gpu": 2})) == {"gpu"}
    assert not claim()
    Task.objects.filter(step_id="near").update(ready_at=database_now() - timedelta(seconds=6))
    assert set(claim()) == {"near"}
    assert Task.objects.get(execution=execution, step_id="gpu").lane.startswith("default~")


def test_a_preference_is_met_at_once(make_workflow, owner):
    executions.start(make_workflow([noop("near", prefers=["region == eu"])]), by=owner)
    lanes.forget()
    assert set(claim(labels={"region": "eu"})) == {"near"}


def test_a_queue_that_is_paused_gives_nothing(make_workflow, owner):
    executions.start(make_workflow([noop("a", queue="slow"), noop("b", queue="slow", requires=["gpu"])]), by=owner)
    executions.start(make_workflow([noop("c")]), by=owner)
    lanes.pause("slow", paused=True)
    assert set(claim(labels={"gpu": True})) == {"c"}
    executions.start(make_workflow([noop("d", queue="slow", requires=["ssd"])]), by=owner)
    lanes.forget()
    assert not claim(labels={"gpu": True, "ssd": True})
    lanes.pause("slow", paused=False)
    assert set(claim(labels={"gpu": True, "ssd": True})) == {"a", "b", "d"}
    assert not Lane.objects.filter(paused=True).exists()


def test_a_performer_of_some_queues_takes_from_no_other(make_workflow, owner):
    executions.start(make_workflow([noop("a", queue="slow"), noop("b")]), by=owner)
    lanes.forget()
    assert set(claim(queues=("slow",))) == {"a"}
    assert not claim(queues=("slow", "other"))
    assert set(claim(queues=("default",))) == {"b"}


# --- results that are used again --------------------------------------------------------------------------------------


def test_a_result_is_used_again_by_its_key(make_workflow, owner):
    step = noop("a", cache={"key": "${inputs.day}", "ttl_seconds": 60})
    outputs = [{"name": "x", "value": "${steps.a.outputs.x}"}]
    workflow = make_workflow([step, noop("b", "a")], inputs={"day": {"default": "mon"}}, outputs=outputs)
    first = executions.start(workflow, by=owner)
    drive(lambda task: done(task, x=1))
    again = executions.start(workflow, by=owner)
    other = executions.start(workflow, by=owner, inputs={"day": "tue"})
    asked = []
    drive(lambda task: (asked.append(task.step_id), done(task, x=2))[1])
    assert sorted(asked) == ["a", "b", "b"]
    for execution, x in ((first, 1), (again, 1), (other, 2)):
        check_rows(execution)
        assert execution.outputs == {"x": x}
    assert not verdict().violations
    CachedResult.objects.update(expires_at=database_now() - timedelta(seconds=1))
    executions.start(workflow, by=owner)
    assert "a" in claim()


def test_a_step_that_was_changed_shares_nothing_with_what_it_was(make_workflow, owner):
    step = noop("a", cache={"key": "k"})
    workflow = make_workflow([step], name="Cached")
    executions.start(workflow, by=owner)
    drive(lambda task: done(task, x=1))
    changed = {"name": "Cached", "steps": [{**step, "python": "builtin.echo"}]}
    executions.start(workflows.update(workflow, changed, by=owner), by=owner)
    assert "a" in claim()


# --- fair shares ------------------------------------------------------------------------------------------------------


def test_a_workflow_with_a_hundred_executions_delays_another_by_its_share(make_workflow, owner):
    greedy, modest = make_workflow([noop("g")]), make_workflow([noop("m")])
    for _ in range(100):
        executions.start(greedy, by=owner)
    executions.start(modest, by=owner)
    taken = turn([], wanted(4)).claimed
    assert [task.step_id for task in taken].count("m") == 1
    executions.start(modest, by=owner)
    assert [task.step_id for task in turn([], wanted(1)).claimed] == ["m"]


def test_priority_goes_first_and_waiting_counts_for_it(make_workflow, owner):
    workflow = make_workflow([noop("a")])
    low, high = (executions.start(workflow, by=owner, priority=p) for p in (0, 5))
    assert [task.execution_id for task in turn([], wanted(1)).claimed] == [high.pk]
    newer = executions.start(workflow, by=owner, priority=5)
    old = database_now() - timedelta(minutes=10)
    Execution.objects.filter(pk=low.pk).update(ready_at=old, rank=old)
    assert [task.execution_id for task in turn([], wanted(1)).claimed] == [low.pk]
    assert [task.execution_id for task in turn([], wanted(1)).claimed] == [newer.pk]


def test_a_workflow_of_low_priority_does_not_starve(make_workflow, owner):
    high, low = make_workflow([noop("h")], priority=10), make_workflow([noop("l")], priority=-10)
    executions.start(low, by=owner)
    for _ in range(5):
        executions.start(high, by=owner)
    assert [task.step_id for task in turn([], wanted(1)).claimed] == ["h"]
    old = database_now() - timedelta(minutes=2)
    Execution.objects.filter(workflow=low).update(ready_at=old)
    assert [task.step_id for task in turn([], wanted(1)).claimed] == ["l"]


def test_a_suspect_of_killing_its_performers_is_taken_alone(make_workflow, owner):
    executions.start(make_workflow([noop("poison"), noop("good"), noop("fine")]), by=owner)
    Task.objects.filter(step_id="poison").update(losses=2)
    assert set(claim(idle=False)) == {"good", "fine"}
    assert set(claim(slots=4)) == {"poison"}
    assert statuses(Execution.objects.get())["poison"] == "in_progress"


# --- retries ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "seconds"), [(90.0, 90), (1.0, 5), (10**9, 86_400), ("soon", 5), (float("-7"), 5)])
def test_a_retry_comes_no_sooner_than_whoever_refused_asked_for(make_workflow, owner, asked, seconds):
    execution = executions.start(make_workflow([noop("a", retries=1, retry_delay=5)]), by=owner)
    accepted(failed(claim()["a"], type="http_status", retry_after=asked))
    task = Task.objects.get(execution=execution)
    assert abs((task.ready_at - database_now()).total_seconds() - seconds) < 5
    assert not claim()
