"""Agents that lie, flood or are deaf, and answers that get lost: what that cannot do to others, or to their work."""

from datetime import timedelta

import pytest
from django.db import OperationalError

from apps.agents import ledger, services
from apps.core.clock import database_now
from apps.core.errors import NotFound
from apps.vault import blobs
from apps.workflows.models import Artifact, Execution, LogChunk, Task
from apps.workflows.services import executions
from tests.integration.agents.conftest import review
from tests.integration.workflows.driver import check_rows, statuses

pytestmark = pytest.mark.django_db


@pytest.fixture
def small(settings):
    """Outputs beyond 4 KiB are spilled, and a step is given at most 25 KB."""
    settings.ENV = settings.ENV.model_copy(update={"OUTPUT_INLINE_BYTES": 4096, "OUTPUT_MAX_BYTES": 25_000})


def given(**values):
    """A step that is given these."""
    return {"id": "next", "depends_on": ["review"], "agent": {"with": values}}


# --- outputs ----------------------------------------------------------------------------------------------------------


def test_a_report_may_be_repeated_when_the_database_went_away_after_its_outputs_were_kept(
    agent, started, small, monkeypatch
):
    execution = started()
    (task,) = agent.claim()
    tell = ledger._tell

    def away(*args, **kwargs):
        monkeypatch.setattr(ledger, "_tell", tell)
        raise OperationalError("the connection was closed")

    monkeypatch.setattr(ledger, "_tell", away)
    outputs = {"big": "x" * 10_000}
    assert agent.about(task, "complete", outputs=outputs).status_code == 503
    assert agent.about(task, "complete", outputs=outputs).json() == {"recorded": True}
    assert Artifact.objects.get().name == "outputs/big.txt"
    check_rows(execution)


def test_large_outputs_find_names_whatever_their_keys_and_the_files_of_the_attempt_are(agent, started, small):
    execution = started(review(), given(one="${steps.review.outputs['a/b']}", two="${steps.review.outputs['a_b']}"))
    (task,) = agent.claim()
    url = f"/agents/{agent.agent.pk}/tasks/{task['task_id']}/artifacts?attempt=1&name=outputs/a_b.txt"
    assert agent.client.post(url, b"its own", "text/plain").status_code == 201
    outputs = {"a/b": "x" * 10_000, "a_b": "y" * 10_000}
    assert agent.about(task, "complete", outputs=outputs).json() == {"recorded": True}
    (task,) = agent.claim()
    assert task["inputs"] == {"one": outputs["a/b"], "two": outputs["a_b"]}
    check_rows(execution)


def test_a_reference_to_a_large_output_counts_for_what_it_stands_for_whatever_it_says(agent, started, small):
    execution = started(review(), given(all="${steps.review.outputs.all}"))
    (task,) = agent.claim()
    url = f"/agents/{agent.agent.pk}/tasks/{task['task_id']}/artifacts?attempt=1&name=x"
    assert agent.client.post(url, b"x" * 10_000, "text/plain").status_code == 201
    Artifact.objects.update(spilled=True)
    forged = {"spilled_to": Artifact.objects.get().blob_id, "size": 0, "content_type": "text/plain; charset=utf-8"}
    assert agent.about(task, "complete", outputs={"all": [forged] * 20}).json() == {"recorded": True}
    assert agent.claim() == []  # 200 KB would have been written out
    row = Task.objects.get(execution=execution, step_id="next")
    assert row.status == "failed"
    assert "more than 25,000 bytes" in row.error["message"]


def test_a_storage_that_does_not_answer_is_told_as_such(agent, started, small, monkeypatch):
    started()
    (task,) = agent.claim()

    def broken(*_):
        raise OSError("no route to host")

    monkeypatch.setattr(blobs, "keep", broken)
    answer = agent.about(task, "complete", outputs={"big": "x" * 10_000})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")  # 400 would be for good
    monkeypatch.undo()
    assert agent.about(task, "complete", outputs={"big": "x" * 10_000}).json() == {"recorded": True}


# --- logs and files ---------------------------------------------------------------------------------------------------


def test_a_log_is_held_to_a_limit_and_says_so(agent, started, monkeypatch):
    monkeypatch.setattr(ledger, "MOST_LOG", 100)
    started()
    (task,) = agent.claim()

    def write(*numbers):
        lines = [{"number": number, "text": "x" * 40} for number in numbers]
        assert agent.about(task, "logs", lines=lines).status_code == 204

    write(1, 2)
    write(1, 2)  # repeated: not counted twice
    write(3, 4)
    write(3, 4)
    write(5)
    texts = list(LogChunk.objects.order_by("number").values_list("number", "text"))
    assert [number for number, _ in texts] == [1, 2, 3]
    assert texts[-1][1].startswith("x" * 20 + "\n[the log ends here")
    assert agent.about(task, "complete").json() == {"recorded": True}


def test_a_log_can_be_followed_whatever_numbers_its_pieces_have(agent, started, owner, client_of):
    execution = started()
    (task,) = agent.claim()
    agent.about(task, "logs", lines=[{"number": 2**31 - 1, "text": "last"}])
    reader = client_of(owner)
    path = f"/executions/{execution.pk}/logs"
    (piece,) = reader.get(path).data
    answer = reader.get(path, {"after": piece["cursor"]})
    assert (answer.status_code, answer.data) == (200, [])


def test_a_piece_of_log_takes_no_message_back(agent, started, monkeypatch):
    started()
    (task,) = agent.claim()
    agent.about(task, "progress", percent_complete=10, message="first")
    current = ledger._current

    def meanwhile(*args):
        row = current(*args)
        monkeypatch.setattr(ledger, "_current", current)
        agent.about(task, "progress", percent_complete=20, message="second")
        return row

    monkeypatch.setattr(ledger, "_current", meanwhile)
    agent.about(task, "logs", lines=[{"number": 1, "text": "x"}])
    row = Task.objects.get(pk=task["task_id"])
    assert (row.percent, row.message) == (20, "second")


# --- leases -----------------------------------------------------------------------------------------------------------


def test_an_agent_that_is_deaf_to_a_cancel_does_not_keep_the_execution_open(agent, started, owner):
    execution = started()
    (task,) = agent.claim()
    agent.beat(task)
    executions.cancel(execution, by=owner)
    assert agent.beat(task)["cancel"] == [task["task_id"]]
    assert agent.beat(task)["cancel"] == [task["task_id"]]  # it has a lease's time to come to an end
    asked = database_now() - timedelta(seconds=31)
    Execution.objects.filter(pk=execution.pk).update(cancel_requested_at=asked)
    answer = agent.beat(task)
    assert (answer["cancel"], answer["lost"]) == ([], [task["task_id"]])
    assert statuses(execution) == {"review": "cancelled"}
    execution.refresh_from_db()
    assert execution.status == "cancelled"
    assert agent.about(task, "complete", outputs={"late": True}).json() == {"recorded": False}
    check_rows(execution)


def test_what_a_heartbeat_names_beside_its_own_costs_nothing(agent, make_agent, started, django_assert_max_num_queries):
    started(review(), review("second"))
    other = make_agent()
    (mine,), (foreign,) = agent.claim(), other.claim()
    before = Task.objects.get(pk=foreign["task_id"]).lease_expires_at
    unknown = [{**foreign, "attempt": number} for number in range(1, 900)]
    with django_assert_max_num_queries(40):
        answer = agent.beat(mine, *unknown)
    assert answer["lost"] == [foreign["task_id"]]
    assert Task.objects.get(pk=foreign["task_id"]).lease_expires_at == before
    assert agent.beat(mine, {**mine, "attempt": 7})["lost"] == []  # a number that it does not hold of what it does


# --- an agent that goes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["change", "rotate", "remove"])
def test_two_who_administer_it_at_once(agent, make_user, what):
    """The second finds it gone: that is a 404."""
    boss = make_user("admin")
    services.remove(agent.agent)
    acts = {
        "change": lambda: services.change(agent.agent, {"slots": 2}),
        "rotate": lambda: services.rotate(agent.agent, by=boss),
        "remove": lambda: services.remove(agent.agent),
    }
    with pytest.raises(NotFound):
        acts[what]()


def test_a_disabled_agent_is_told_that_it_is(agent):
    services.change(agent.agent, {"disabled": True})
    answer = agent.post("heartbeat", {"tasks": []})
    assert (answer.status_code, answer.json()["code"]) == (401, "agent_disabled")
    assert f"PATCH /agents/{agent.agent.pk}" in answer.json()["detail"]
    services.change(agent.agent, {"disabled": False})
    assert agent.post("heartbeat", {"tasks": []}).status_code == 200
