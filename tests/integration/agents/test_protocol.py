"""The protocol of agents: what they claim, keep and report, over HTTP."""

import json
from datetime import timedelta

import pytest

from apps.core.clock import database_now
from apps.monitoring import facts
from apps.workflows.models import Event, Execution, LogChunk, Performer, Task
from apps.workflows.services import executions, leases
from tests.fuzz.corpus import LITERALS
from tests.integration.agents.conftest import review
from tests.integration.conftest import noop
from tests.integration.workflows.driver import check_rows, claim, statuses

pytestmark = pytest.mark.django_db


def test_a_step_is_claimed_and_completed_over_http(agent, started):
    execution = started(review(), noop("after", "review", when="${steps.review.outputs.verdict == 'good'}"))
    (task,) = agent.claim()
    assert task["inputs"] == {"text": "hello", "n": 3}
    assert (task["step_id"], task["attempt"], task["execution_id"]) == ("review", 1, str(execution.pk))
    assert task["workflow_id"] == execution.workflow.slug
    assert agent.about(task, "progress", percent_complete=40, message="reading").status_code == 204
    lines = [{"number": 1, "text": "begun\n"}, {"number": 2, "stream": "stderr", "text": "odd\n"}]
    for _ in range(2):  # the second time nothing is added
        assert agent.about(task, "logs", lines=lines).status_code == 204
    row = Task.objects.get(pk=task["task_id"])
    assert (row.percent, row.message, row.lease_owner) == (40, "reading", agent.performer)
    assert agent.about(task, "complete", outputs={"verdict": "good"}).json() == {"recorded": True}
    assert [(line.number, line.stream) for line in LogChunk.objects.order_by("number")] == [
        (1, "stdout"), (2, "stderr"),
    ]  # fmt: skip
    assert statuses(execution) == {"review": "completed", "after": "pending"}
    assert claim().keys() == {"after"}
    check_rows(execution)


def test_workers_take_no_step_of_agents_and_agents_no_other(agent, started):
    execution = started(review(), noop("ordinary"), review("fast", queue="fast"))
    assert claim().keys() == {"ordinary"}
    assert claim(queues=("fast", "default")).keys() == set()
    assert {task["step_id"] for task in agent.claim(5)} == {"review", "fast"}
    assert agent.claim(5) == []
    check_rows(execution)


def test_labels_decide_which_agent_takes_a_step(make_agent, started):
    started({"id": "a", "requires": ["region == eu"], "agent": {"requires": ["gpu >= 1", "kind == reviewer"]}})
    assert make_agent(labels={"gpu": 2, "kind": "reviewer", "region": "us"}).claim() == []
    (task,) = make_agent(labels={"gpu": 2, "kind": "reviewer", "region": "eu"}).claim()
    assert task["inputs"] == {}


def test_slots_bound_what_is_held(agent, started):
    started(*(review(f"r{number}") for number in range(4)))
    first = agent.claim(5)
    assert len(first) == 2
    assert agent.claim(5) == []
    agent.about(first[0], "complete", outputs={})
    assert len(agent.claim(5)) == 1


def test_a_repeated_report_is_answered_kindly_and_changes_nothing(agent, started):
    execution = started()
    (task,) = agent.claim()
    assert agent.about(task, "complete", outputs={"a": 1}).json() == {"recorded": True}
    seq = Execution.objects.get(pk=execution.pk).seq
    assert agent.about(task, "complete", outputs={"a": 2}).json() == {"recorded": False}
    assert agent.about(task, "fail", error="no").json() == {"recorded": False}
    for late in ("progress", "logs"):
        body = {"percent_complete": 1} if late == "progress" else {"lines": [{"number": 1, "text": "x"}]}
        answer = agent.about(task, late, **body)
        assert (answer.status_code, answer.json()["code"]) == (409, "stale_attempt")
    assert Task.objects.get(pk=task["task_id"]).outputs == {"a": 1}
    assert Execution.objects.get(pk=execution.pk).seq == seq
    assert not LogChunk.objects.exists()


def test_a_failure_is_retried_as_the_step_says(agent, started):
    execution = started(review(retries=1))
    (task,) = agent.claim()
    assert agent.about(task, "fail", error="flaky").json() == {"recorded": True}
    (task,) = agent.claim()
    assert task["attempt"] == 2
    agent.about(task, "fail", error="for good", retryable=False)
    row = Task.objects.get(pk=task["task_id"])
    assert (row.status, row.error["message"]) == ("failed", "for good")
    check_rows(execution)


def test_a_stale_attempt_changes_nothing(make_agent, started):
    execution = started()
    zombie, other = make_agent(), make_agent()
    (task,) = zombie.claim()
    zombie.beat(task)
    Task.objects.filter(pk=task["task_id"]).update(lease_expires_at=database_now() - timedelta(seconds=1))
    leases.reap()
    (again,) = other.claim()
    assert again["attempt"] == 2
    seq = Execution.objects.get(pk=execution.pk).seq
    reports = {
        "complete": {"outputs": {"of": "the zombie"}}, "fail": {"error": "x"}, "progress": {"percent_complete": 9},
        "logs": {"lines": [{"number": 1, "text": "x"}]},
    }  # fmt: skip
    for what, body in reports.items():
        answer = zombie.about(task, what, **body)
        assert (answer.status_code, answer.json()["code"]) == (409, "stale_attempt"), what
        # Nor does the number of the present lease help: it is another's.
        assert zombie.about(again, what, **body).status_code == 409, what
    assert zombie.beat(task)["lost"] == [task["task_id"]]
    assert Execution.objects.get(pk=execution.pk).seq == seq
    assert other.about(again, "complete", outputs={"of": "the other"}).json() == {"recorded": True}
    assert Task.objects.get(pk=task["task_id"]).outputs == {"of": "the other"}
    check_rows(execution)


def test_a_heartbeat_keeps_leases_and_tells_of_a_cancel(agent, started, owner):
    execution = started()
    (task,) = agent.claim()
    before = Task.objects.get(pk=task["task_id"]).lease_expires_at
    answer = agent.beat(task)
    assert (answer["cancel"], answer["lost"]) == ([], [])
    assert Task.objects.get(pk=task["task_id"]).lease_expires_at > before
    executions.cancel(execution, by=owner)
    assert agent.beat(task)["cancel"] == [task["task_id"]]
    assert agent.about(task, "fail", error="cancelled").json() == {"recorded": True}
    assert statuses(execution) == {"review": "cancelled"}
    check_rows(execution)


def test_what_a_heartbeat_leaves_out_goes_to_others(make_agent, started):
    execution = started()
    agent, other = make_agent(), make_agent()
    (task,) = agent.claim()
    agent.beat()  # the answer to the claim may still be on its way
    assert Task.objects.get(pk=task["task_id"]).lease_owner == agent.performer
    agent.beat(task)
    agent.beat()
    (again,) = other.claim()
    assert (again["task_id"], again["attempt"]) == (task["task_id"], 2)
    check_rows(execution)


def test_a_claim_whose_answer_got_lost_is_given_back(make_agent, started):
    started()
    agent = make_agent(slots=1)
    (task,) = agent.claim()
    assert agent.claim() == []  # its only slot is taken
    long_ago = database_now() - timedelta(seconds=16)
    Task.objects.filter(pk=task["task_id"]).update(
        started_at=long_ago, lease_expires_at=long_ago + timedelta(seconds=30)
    )
    (again,) = agent.claim()
    assert (again["task_id"], again["attempt"]) == (task["task_id"], 2)


def test_an_attempt_ends_when_its_time_is_over(agent, started):
    execution = started(review(timeout_seconds=5), review("other", timeout_seconds=5))
    tasks = {task["step_id"]: task for task in agent.claim(2)}
    Task.objects.update(started_at=database_now() - timedelta(seconds=6))
    answer = agent.about(tasks["review"], "complete", outputs={})
    assert (answer.status_code, answer.json()["code"]) == (409, "stale_attempt")
    assert agent.beat(tasks["other"])["lost"] == [tasks["other"]["task_id"]]
    assert statuses(execution) == {"review": "timed_out", "other": "timed_out"}
    check_rows(execution)


def test_outputs_are_checked_as_those_of_workers(agent, started, settings):
    settings.ENV = settings.ENV.model_copy(update={"OUTPUT_INLINE_BYTES": 4096})
    execution = started(review(), {"id": "next", "depends_on": ["review"], "agent": {"with": {
        "big": "${steps.review.outputs.big}"}}})  # fmt: skip
    (task,) = agent.claim()
    answer = agent.about(task, "complete", outputs=["no", "object"])
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/outputs")
    big = "x" * 10_000
    assert agent.about(task, "complete", outputs={"big": big, "n": 1}).json() == {"recorded": True}
    kept = Task.objects.get(pk=task["task_id"]).outputs
    assert kept["n"] == 1
    assert kept["big"]["size"] == 10_000  # spilled
    (task,) = agent.claim()
    assert task["inputs"] == {"big": big}
    check_rows(execution)


def test_files_become_artifacts(agent, started):
    started()
    (task,) = agent.claim()
    url = f"/agents/{agent.agent.pk}/tasks/{task['task_id']}/artifacts"

    def send(name, body=b"%PDF", attempt=1):
        return agent.client.post(f"{url}?attempt={attempt}&name={name}", body, "application/pdf")

    made = send("plots/report.pdf")
    assert (made.status_code, made.json()["size"], made.json()["content_type"]) == (201, 4, "application/pdf")
    assert send("plots/report.pdf").json()["id"] == made.json()["id"]  # the answer got lost, and it is sent again
    assert send("plots/report.pdf", b"another").json()["code"] == "name_taken"
    assert send("../x").status_code == 400
    assert send("x", attempt=2).json()["code"] == "stale_attempt"


def test_presence_is_told_and_ends_with_the_agent(agent, started, as_admin):
    started()
    agent.claim()
    row = Performer.objects.get(name=agent.performer)
    assert (row.kind, row.slots, row.load) == ("agent", 2, 1)
    shown = as_admin.get(f"/agents/{agent.agent.pk}").json()
    assert (shown["load"], shown["seen_at"] is not None) == (1, True)
    assert as_admin.delete(f"/agents/{agent.agent.pk}").status_code == 204
    assert not Performer.objects.filter(name=agent.performer).exists()
    assert not Task.objects.exclude(lease_owner="").exists()
    assert Event.objects.filter(type="task.released").exists()


@pytest.fixture
def as_admin(make_user):
    from rest_framework.test import APIClient

    client = APIClient(raise_request_exception=True)
    client.force_authenticate(make_user("admin"))
    return client


def test_a21_hostile_literals_in_every_field_are_never_a_5xx(agent, started):
    execution = started(review("first"), review("second"))
    task, second = agent.claim(2)
    place = "no such text anywhere"
    bodies = {
        "claim": {"max": 1, "wait_seconds": 0},
        "heartbeat": {"tasks": [{"task_id": task["task_id"], "attempt": 1}], "load": 1},
        "progress": {"attempt": 1, "percent_complete": 1, "message": ""},
        "fail": {"attempt": 9, "error": "", "retryable": True},
        "logs": {"attempt": 1, "lines": [{"number": 1, "stream": "stdout", "text": ""}]},
        "complete": {"attempt": 9, "outputs": {}},
    }  # fmt: skip
    asked = 0
    for what, body in bodies.items():
        base = f"/agents/{agent.agent.pk}"
        path = f"{base}/{what}" if what in ("claim", "heartbeat") else f"{base}/tasks/{task['task_id']}/{what}"
        for name in body:
            written = json.dumps({**body, name: place})
            for literal in LITERALS[::3]:
                sent = written.replace(json.dumps(place), literal).encode("utf-8", "surrogatepass")
                answer = agent.client.post(path, sent, "application/json")
                asked += 1
                assert answer.status_code < 500, (what, name, literal[:80])
    print(f"A21: {asked} hostile requests of an agent, none of them a 5xx")
    assert asked > 900
    agent.client.post(
        f"/agents/{agent.agent.pk}/tasks/{task['task_id']}/artifacts?attempt=1&name=%ed%a0%80", b"", "x/y"
    )
    check_rows(execution)
    assert agent.about(second, "complete", outputs={"still": "there"}).json() == {"recorded": True}


def test_the_metrics_tell_of_it(agent, started):
    started()
    agent.claim()
    found = facts.gather()
    assert (found.agents.states, found.agents.slots, found.agents.used) == ({"live": 1, "draining": 0, "lost": 0}, 2, 1)
    agent.beat(load=2)
    assert facts.gather().agents.used == 2
