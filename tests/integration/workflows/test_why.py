"""Why a task does not run: each reason by the situation that makes it, and nothing that the asker may not know."""

from datetime import timedelta

import pytest
from guardian.shortcuts import assign_perm

from apps.core.clock import database_now
from apps.workflows.models import Execution, Performer, RateLimit, Task
from apps.workflows.services import executions, leases
from apps.workflows.services.ledger import lanes
from tests.integration.conftest import noop
from tests.integration.workflows.driver import accepted, claim, done, drive, failed

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _lanes_anew():
    lanes.forget()
    yield
    lanes.forget()


@pytest.fixture
def admin(make_user, client_of):
    return client_of(make_user("admin"))


@pytest.fixture
def why(admin):
    """The reasons of a step by code: `why(execution, "a")`."""

    def ask(execution, step, client=admin):
        task = Task.objects.get(execution=execution, step_id=step)
        answer = client.get(f"/tasks/{task.pk}/why")
        assert answer.status_code == 200, answer.content
        told = answer.json()
        assert (told["task_id"], told["step_id"], told["status"]) == (str(task.pk), step, task.status)
        assert all(reason["message"] for reason in told["reasons"])
        return {reason["code"]: reason for reason in told["reasons"]}

    return ask


def beat(name="w1", slots=4, load=0, **values):
    leases.beat(owner=name, kind="worker", slots=slots, held=[], lease_seconds=30, **values)
    Performer.objects.filter(name=name).update(load=load)


def test_nothing_stands_in_its_way(run, why):
    beat()
    execution = run([noop("a")])
    assert list(why(execution, "a")) == ["ready"]
    accepted(done(claim(owner="w1")["a"]))
    assert list(why(execution, "a")) == ["ended"]


def test_what_runs_says_by_whom(run, why):
    execution = run([noop("a")])
    claim(owner="w1")
    assert why(execution, "a")["running"]["performer"] == "w1"
    executions.cancel(execution, by=None)
    assert set(why(execution, "a")) == {"stopping", "running"}


def test_open_dependencies_and_what_each_does(run, why):
    execution = run(
        [noop("a"), noop("b"), {"id": "w", "wait": {"signal": "go"}}, noop("c", "a", "b", "w"), noop("d", "c")]
    )
    accepted(done(claim(slots=1)["a"]))
    found = why(execution, "c")["dependency"]
    assert [(row["step_id"], row["doing"]) for row in found["steps"]] == [
        ("b", "it stands in line"), ("w", "it waits for the signal go"),
    ]  # fmt: skip
    assert found["open"] == 2
    assert "2 of its 3" in found["message"]
    assert why(execution, "d")["dependency"]["steps"][0]["doing"] == "it waits for 2 steps itself"


def test_a_retry_says_when(run, why):
    beat()
    execution = run([noop("a", retries=3, retry_delay=60)])
    accepted(failed(claim()["a"], message="boom"))
    found = why(execution, "a")["retry"]
    task = Task.objects.get(execution=execution)
    assert found["at"] == task.ready_at.isoformat().replace("+00:00", "Z")
    assert (found["failures"], found["error"]["message"]) == (1, "boom")


def test_timers_and_signals(run, why):
    execution = run(
        [{"id": "t", "wait": {"seconds": 600}}, {"id": "s", "wait": {"signal": "go"}, "timeout_seconds": 60}]
    )
    assert why(execution, "t")["timer"]["due_at"]
    found = why(execution, "s")["signal"]
    assert found["name"] == "go"
    assert f"POST /executions/{execution.pk}/signal/go" in found["message"]
    assert found["due_at"]


def test_an_approval_says_who_may(run, why):
    execution = run([{"id": "ok", "approval": {"who": ["finance", "ann"]}}])
    found = why(execution, "ok")["approval"]
    assert (found["who"], found["allow_requester"]) == (["finance", "ann"], False)
    assert "finance, ann" in found["message"]


def test_a_sub_workflow_is_named_to_who_may_read_it(run, why, make_workflow, make_user, client_of):
    make_workflow([{"id": "w", "wait": {"signal": "go"}}], name="Secret plan")
    execution = run([{"id": "sub", "workflow": {"id": "secret-plan"}}])
    found = why(execution, "sub")["execution"]
    child = Execution.objects.get(workflow__slug="secret-plan")
    assert (found["execution_id"], found["execution_status"]) == (str(child.pk), child.status)
    stranger = client_of(make_user())
    assign_perm("workflow:read", stranger.user, execution.workflow)
    hidden = why(execution, "sub", stranger)["execution"]
    assert "secret-plan" not in str(hidden)
    assert str(child.pk) not in str(hidden)


def test_items_are_counted(run, why):
    execution = run([noop("load", for_each=[1, 2, 3, 4], max_parallel=2)])
    found = claim()
    accepted(done(found["load[0]"]))
    reason = why(execution, "load")["items"]
    assert (reason["total"], reason["completed"], reason["failed"], reason["open"], reason["without_task"]) == (
        4,
        1,
        0,
        3,
        1,
    )
    assert "running" in why(execution, "load[1]")


def test_a_paused_execution_and_a_paused_queue(run, why):
    beat()
    execution = run([noop("a", queue="gpu"), noop("b", "a")])
    executions.pause(execution, by=None)
    lanes.pause("gpu", paused=True)
    assert set(why(execution, "a")) == {"paused", "queue_paused"}
    assert set(why(execution, "b")) == {"paused", "dependency"}
    assert f"POST /executions/{execution.pk}/resume" in why(execution, "a")["paused"]["message"]


def test_a_limit_on_executions_names_its_holders(make_workflow, owner, why):
    limit = {"key": "k-${inputs.k}", "limit": 1, "on_conflict": "queue"}
    workflow = make_workflow([noop("a")], inputs={"k": {"default": 1}}, concurrency=limit)
    beat()
    first, second, third = (executions.start(workflow, by=owner) for _ in range(3))
    found = why(third, "a")["concurrency"]
    assert (found["key"], found["limit"], found["holders"], found["waiting_before"]) == ("k-1", 1, [str(first.pk)], 1)
    assert "concurrency" not in why(first, "a")
    assert "concurrency" in why(second, "a")


def test_a_rate_limit_says_when_the_next_may_start(run, why):
    beat()
    rate = {"name": "openai", "per_minute": 1}
    execution = run([noop("a", rate_limit=rate), noop("b", rate_limit=rate)])
    before = database_now()
    assert len(claim()) == 1
    (left,) = Task.objects.filter(execution=execution, ready_at__isnull=False)
    found = why(execution, left.step_id)["rate"]
    assert found["name"] == "openai"
    free_at = RateLimit.objects.get().free_at
    assert free_at >= before + timedelta(seconds=60)
    assert found["at"] >= free_at.isoformat()[:19]


def test_no_performer(run, why):
    execution = run([noop("a", queue="gpu")])
    assert why(execution, "a")["no_performer"]["live"] == 0
    beat("w1", queues=["default"])
    beat("w2", draining=True)
    found = why(execution, "a")["no_performer"]
    assert (found["live"], found["draining"]) == (1, 1)
    assert "--queues gpu" in found["message"]


def test_labels_that_nobody_has(run, why, make_user, client_of):
    beat("near", labels={"gpu": 1, "region": "us"})
    beat("far")
    execution = run([noop("a", requires=["gpu >= 1", "region == eu"])])
    found = why(execution, "a")["labels"]
    assert (found["nearest"], found["lacks"], found["unmet"]) == ("near", ["region == eu"], ["region == eu"])
    beat("other", labels={"region": "eu"})
    found = why(execution, "a")["labels"]
    assert (found["unmet"], found["performers"]) == ([], 3)
    plain = why(execution, "a", client_of(make_user("user")))["labels"]
    assert "nearest" not in plain
    assert "near," not in plain["message"]
    beat("both", labels={"region": "eu", "gpu": 4})
    assert list(why(execution, "a")) == ["ready"]


def test_all_that_could_take_it_are_full(make_workflow, owner, why, make_user, client_of):
    beat("w1", slots=2, load=2)
    beat("w2", slots=1, load=0, queues=["other"])
    workflow = make_workflow([noop("a")])
    executions.start(workflow, by=owner)
    execution = executions.start(workflow, by=owner)
    found = why(execution, "a")["busy"]
    assert found["full"] == [{"name": "w1", "load": 2, "slots": 2}]
    assert (found["performers"], found["executions_before"]) == (1, 1)
    plain = why(execution, "a", client_of(make_user("user")))["busy"]
    assert "w1" not in str(plain)


def test_who_has_room_lacks_what_is_preferred(run, why):
    beat("w1", labels={})
    assert "preference" in why(run([noop("a", prefers=["ssd"])]), "a")


def test_a_stopped_execution_starts_nothing(run, why):
    execution = run([noop("a"), noop("b", "a")])
    claim()
    executions.cancel(execution, by=None)
    assert list(why(execution, "b")) == ["ended"]


def test_an_execution_is_explained_task_by_task(run, admin, django_assert_max_num_queries):
    beat()
    execution = run([noop(f"s{number}") for number in range(150)])
    with django_assert_max_num_queries(12):
        told = admin.get(f"/executions/{execution.pk}/why").json()
    assert (len(told["tasks"]), told["more"]) == (100, 50)
    assert told["tasks"][0]["reasons"][0]["code"] == "ready"
    drive()
    assert admin.get(f"/executions/{execution.pk}/why").json()["tasks"] == []


def test_a8_who_may_ask(callers, run):
    execution = run([noop("a")])
    task = Task.objects.get(execution=execution)
    for name, client in callers(execution).items():
        expected = 404 if name == "stranger" else 200
        assert client.get(f"/tasks/{task.pk}/why").status_code == expected, name
        assert client.get(f"/executions/{execution.pk}/why").status_code == expected, name
