"""Progress read over REST: snapshot, history, estimate; who sees what; the journal folds into the snapshot."""

import pytest
from guardian.shortcuts import assign_perm

from apps.workflows.models import Execution, Workflow
from apps.workflows.selectors import progress
from apps.workflows.services import executions
from tests.integration.conftest import noop
from tests.integration.workflows.driver import accepted, claim, done, drive, failed

pytestmark = pytest.mark.django_db

ENDPOINTS = ["", "/history", "/estimate"]


@pytest.fixture
def workflow(make_workflow):
    return make_workflow([noop("z"), noop("a", "z"), noop("m", "z", allow_failure=True)], name="Report")


def test_a_snapshot_has_the_contracts_members_and_the_definitions_order(reader, workflow, owner):
    execution = executions.start(workflow, by=owner)
    state = reader.get("/progress/report").json()
    assert {
        "workflow_id", "execution_id", "status", "percent_complete", "message", "steps", "started_at", "updated_at",
        "finished_at", "seq", "total_steps",
    } <= set(state)  # fmt: skip
    assert (state["workflow_id"], state["execution_id"]) == ("report", str(execution.pk))
    assert list(state["steps"]) == ["z", "a", "m"]
    assert set(state["steps"]["z"]) == {
        "status", "percent_complete", "message", "attempt", "started_at", "finished_at",
    }  # fmt: skip
    accepted(failed(claim()["z"], message="boom", retryable=False))
    state = reader.get(f"/progress/{execution.pk}").json()
    assert state["status"] == "failed"
    assert state["steps"]["z"]["error"]["message"] == "boom"
    assert (state["failed_steps"], state["skipped_steps"], state["total_steps"]) == (1, 2, 3)


def test_a_workflows_id_means_its_newest_execution(reader, workflow, owner):
    first = executions.start(workflow, by=owner)
    second = executions.start(workflow, by=owner)
    assert reader.get("/progress/report").json()["execution_id"] == str(second.pk)
    assert reader.get(f"/progress/{first.pk}").json()["execution_id"] == str(first.pk)
    assert reader.get(f"/progress/{first.pk.hex}").json()["execution_id"] == str(first.pk)


def test_history_is_paged_within_one_execution(reader, workflow, owner):
    execution = executions.start(workflow, by=owner)
    drive()
    execution.refresh_from_db()
    page = reader.get("/progress/report/history?limit=4").json()
    executions.start(workflow, by=owner)  # newer: the next page is still of the first
    seen = page["results"]
    while page["next"]:
        page = reader.get(page["next"]).json()
        seen += page["results"]
    assert [event["seq"] for event in seen] == list(range(1, execution.seq + 1))
    assert {event["execution_id"] for event in seen} == {str(execution.pk)}
    assert seen[0]["type"] == "execution.created"
    assert seen[0]["step_id"] is None
    assert seen[-1]["type"] == "execution.completed"


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=x", "after=-1", "after=1.5", "limit=1e20"])
def test_a22_odd_pages_are_refused(reader, reporter, query):
    reporter.report("t", 1)
    answer = reader.get(f"/progress/t/history?{query}")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] in ("/limit", "/after")


def test_a22_large_pages_are_capped(reader, reporter):
    reporter.report("t", 1)
    assert len(reader.get(f"/progress/t/history?limit={'9' * 30}").json()["results"]) == 2
    assert reader.get(f"/progress/t/history?after={'9' * 30}").json() == {"results": [], "next": None}


@pytest.mark.parametrize("end", ENDPOINTS)
def test_a09_foreign_and_unknown_ids_have_one_answer(nobody, reporter, end):
    reporter.report("mine", 1)
    Workflow.objects.filter(slug="mine").update(owner=nobody.user)
    told = reporter.report("theirs", 1).json()
    unknown = ["nowhere", "00000000-0000-0000-0000-000000000000", "x" * 101, "ws", "update%20", "é"]
    answers = [nobody.get(f"/progress/{asked}{end}") for asked in ["theirs", told["execution_id"], *unknown]]
    assert {answer.status_code for answer in answers} == {404}
    bodies = [{**answer.json(), "request_id": ""} for answer in answers]
    assert bodies == [bodies[0]] * len(bodies)
    assert nobody.get(f"/progress/mine{end}").status_code == 200
    assign_perm("workflow:read", nobody.user, Workflow.objects.get(slug="theirs"))
    assert nobody.get(f"/progress/theirs{end}").status_code == 200


@pytest.mark.parametrize("end", ENDPOINTS)
def test_who_may_read(anonymous, nobody, reader, reporter, set_env, end):
    reporter.report("t", 1)
    assert anonymous.get(f"/progress/t{end}").status_code == 401
    assert nobody.get(f"/progress/t{end}").status_code == 404  # as what never was
    assert reader.get(f"/progress/t{end}").status_code == 200
    set_env(ANONYMOUS_ROLE="guest")
    assert anonymous.get(f"/progress/t{end}").status_code == 200


def test_a_workflow_that_was_never_executed_says_so(reader, workflow):
    answer = reader.get("/progress/report")
    assert (answer.status_code, answer.json()["code"]) == (404, "never_executed")


def test_tickets_are_for_accounts(anonymous, reader, set_env):
    set_env(ANONYMOUS_ROLE="guest")
    assert anonymous.post("/progress/ticket").status_code == 401
    assert reader.post("/progress/ticket").json()["expires_in"] == 30


# --- I6: folding the journal gives the state --------------------------------------------------------------------------


def fold(state, events):
    """What a client does with events."""
    state = {**state, "steps": {name: dict(step) for name, step in state["steps"].items()}}
    for event in events:
        state["seq"] = event["seq"]
        state["percent_complete"] = event["overall_percent"]
        if event["step_id"] is None:
            state["status"] = event["status"]
            state["message"] = event.get("message", state["message"])
            continue
        step = state["steps"].setdefault(event["step_id"], {"message": ""})
        anew = event["type"] in ("task.started", "task.completed")  # a message lasts until the next of these
        step |= {"status": event["status"], "percent_complete": event["percent_complete"], "attempt": event["attempt"]}
        step["message"] = event.get("message", "" if anew else step["message"])
    return state


def _same(folded, fresh):
    for name in ("status", "percent_complete", "message", "seq"):
        assert folded[name] == fresh[name], name
    assert set(folded["steps"]) == set(fresh["steps"])
    for step, state in fresh["steps"].items():
        for name in ("status", "percent_complete", "message", "attempt"):
            assert folded["steps"][step][name] == state[name], (step, name)


def test_i6_the_events_after_a_snapshot_give_the_next_one(workflow, owner, reporter):
    execution = executions.start(workflow, by=owner)
    old = progress.snapshot(execution)
    first = claim()["z"]
    reporter.report("report", 40, step="z", message="on it")
    between = progress.snapshot(execution)
    drive(act=lambda task: failed(task, retryable=False) if task.step_id == "m" else done(task))
    accepted(done(first))
    drive(act=lambda task: failed(task, retryable=False) if task.step_id == "m" else done(task))
    fresh = progress.snapshot(execution)
    assert fresh["status"] == "completed"
    for state in (old, between):
        _same(fold(state, progress.events_after(execution.pk, state["seq"], 1000)), fresh)
    _same(fold(between, progress.events_after(execution.pk, 0, 1000)), fresh)  # what was known already does no harm


def test_i6_a_trackers_journal_gives_its_state(reporter):
    for percent, status, step in [
        (0, "pending", "a"), (0, "waiting", "b"), (10, "in_progress", "b"), (30, "failed", "b"),
        (60, "in_progress", ""), (5, "completed", "c"), (60, "waiting", ""), (70, "completed", ""),
    ]:  # fmt: skip
        assert reporter.report("t", percent, status, step=step, message=f"{status} {step}").status_code == 200
    execution = Execution.objects.get(workflow__slug="t")
    nothing = {"status": "pending", "percent_complete": 0, "message": "", "seq": 0, "steps": {}}
    _same(fold(nothing, progress.events_after(execution.pk, 0, 1000)), progress.snapshot(execution))
