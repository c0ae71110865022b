"""Reports from outside over REST: what they make, what they change, and what they may not."""

import math
import threading

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.accounts.models import Role
from apps.workflows.engine.states import Status
from apps.workflows.models import Event, Execution, Task, Workflow
from apps.workflows.services import executions, leases, trackers
from tests.integration.conftest import noop
from tests.integration.workflows.driver import check_rows, claim, journal

pytestmark = pytest.mark.django_db


def test_the_seeds_curl_lines_work(reporter):
    body = {"workflow_id": "workflow-123", "percent_complete": 50.0, "status": "in_progress"}
    answer = reporter.post("/progress/update", {**body, "message": "Processing data"})
    assert answer.status_code == 200, answer.content
    told = answer.json()
    assert (told["workflow_id"], told["status"], told["percent_complete"]) == ("workflow-123", "in_progress", 50)
    state = reporter.get("/progress/workflow-123").json()
    assert state["execution_id"] == told["execution_id"]
    assert (state["message"], state["percent_complete"], state["seq"]) == ("Processing data", 50, told["seq"])
    assert Workflow.objects.get(slug="workflow-123").owner == reporter.user


def test_a_tracker_with_steps_has_their_mean_until_the_whole_is_told(reporter):
    reporter.report("train", 0, step="load")
    reporter.report("train", 0, "pending", step="fit")
    reporter.report("train", 100, "completed", step="load")
    told = reporter.report("train", 50, step="fit", message="epoch 1").json()
    assert told["percent_complete"] == 75
    state = reporter.get("/progress/train").json()
    assert list(state["steps"]) == ["load", "fit"]
    assert state["steps"]["load"]["status"] == "completed"
    assert state["steps"]["fit"] | {"started_at": 0} == {
        "status": "in_progress",
        "percent_complete": 50,
        "message": "epoch 1",
        "attempt": 1,
        "started_at": 0,
        "finished_at": None,
    }
    assert reporter.report("train", 80).json()["percent_complete"] == 80
    assert reporter.report("train", 99, step="fit").json()["percent_complete"] == 80
    check_rows(Execution.objects.get(workflow__slug="train"))


def test_completing_the_whole_ends_its_steps(reporter):
    reporter.report("t", 10, step="a")
    reporter.report("t", 0, "pending", step="b")
    assert reporter.report("t", 10, "completed").json()["percent_complete"] == 100
    execution = Execution.objects.get(workflow__slug="t")
    assert dict(Task.objects.filter(execution=execution).values_list("step_id", "status")) == {
        "a": "completed",
        "b": "skipped",
    }
    assert journal(execution)[-3:] == [("task.completed", "a"), ("task.skipped", "b"), "execution.completed"]
    before_the_end = Event.objects.filter(execution=execution).order_by("-seq")[1]
    assert before_the_end.data["overall_percent"] < 100
    check_rows(execution)


def test_a_failure_cancels_what_is_open_and_keeps_the_percentage(reporter):
    reporter.report("t", 10, step="a")
    told = reporter.report("t", 40, "failed", message="disk full").json()
    assert (told["status"], told["percent_complete"]) == ("failed", 40)
    state = reporter.get("/progress/t").json()
    assert state["error"] == {"type": "reported", "message": "disk full"}
    assert state["steps"]["a"]["status"] == "cancelled"


def test_a36_reordered_and_repeated_reports_change_nothing(reporter):
    reporter.report("t", 50, message="half")
    again = reporter.report("t", 50, message="half").json()
    seq = again["seq"]
    late = reporter.report("t", 30).json()
    assert (late["percent_complete"], late["seq"]) == (50, seq)
    done = reporter.report("t", 100, "completed").json()
    for _ in range(2):
        assert reporter.report("t", 100, "completed").json() == done
    after = reporter.report("t", 60)
    assert (after.status_code, after.json()["code"]) == (409, "terminal")
    assert reporter.report("t", 100, "failed").status_code == 409
    assert Execution.objects.filter(workflow__slug="t").count() == 1
    assert Event.objects.filter(execution_id=done["execution_id"]).count() == done["seq"]


def test_a36_a_step_that_has_ended_is_final(reporter):
    reporter.report("t", 100, "completed", step="a")
    assert reporter.report("t", 100, "completed", step="a").status_code == 200
    assert reporter.report("t", 10, step="a").json()["code"] == "terminal"


def test_restart_begins_a_new_execution(reporter):
    first = reporter.report("t", 100, "completed").json()
    second = reporter.report("t", 5, restart=True).json()
    assert second["execution_id"] > first["execution_id"]
    assert second["percent_complete"] == 5
    assert reporter.report("t", 6, restart=True).json()["execution_id"] == second["execution_id"]
    old = reporter.report(first["execution_id"], 5, restart=True)
    assert (old.status_code, old.json()["code"]) == (409, "terminal")


def test_percent_is_100_at_success_only(reporter):
    assert reporter.report("t", 100).json()["percent_complete"] == 99
    assert reporter.report("t", 0, "completed").json()["percent_complete"] == 100


@pytest.mark.parametrize("word", ["update", "ws", "ticket", "validate"])
def test_reserved_words_are_refused(reporter, word):
    answer = reporter.report(word, 1)
    assert answer.status_code == 400
    assert answer.json()["errors"][0] | {"message": ""} == {
        "pointer": "/workflow_id",
        "code": "reserved",
        "message": "",
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("percent_complete", -1),
        ("percent_complete", 100.1),
        ("percent_complete", True),
        ("percent_complete", "nan"),
        ("percent_complete", None),
        ("status", "done"),
        ("status", "skipped"),
        ("workflow_id", "a b"),
        ("workflow_id", "x" * 101),
        ("workflow_id", ""),
        ("step_id", "a/b"),
        ("message", "x" * 1001),
        ("metadata", [1]),
        ("metadata", {"x": "y" * 16384}),
        ("timestamp", "yesterday"),
        ("owner", "me"),
    ],
)
def test_what_is_wrong_is_named_and_changes_nothing(reporter, field, value):
    body = {"workflow_id": "t", "percent_complete": 1, "status": "in_progress"}
    answer = reporter.post("/progress/update", {**body, field: value})
    assert answer.status_code == 400, answer.content
    assert answer.json()["errors"][0]["pointer"] == f"/{field}"
    assert not Workflow.objects.exists()


def test_an_array_is_all_or_nothing(reporter):
    body = [
        {"workflow_id": "a", "percent_complete": 10, "status": "in_progress"},
        {"workflow_id": "a", "percent_complete": 20, "status": "in_progress", "step_id": "s"},
        {"workflow_id": "b", "percent_complete": 100, "status": "completed"},
    ]
    told = reporter.post("/progress/update", body).json()
    assert [one["workflow_id"] for one in told] == ["a", "a", "b"]
    bad = [
        {"workflow_id": "c", "percent_complete": 10, "status": "in_progress"},
        {"workflow_id": "b", "percent_complete": 10, "status": "in_progress"},
    ]
    assert reporter.post("/progress/update", bad).status_code == 409
    assert not Workflow.objects.filter(slug="c").exists()
    wrong = reporter.post("/progress/update", [bad[0], {**bad[0], "workflow_id": "ws"}])
    assert wrong.json()["errors"][0]["pointer"] == "/1/workflow_id"
    one_too_many = [bad[0]] * 1001
    assert reporter.post("/progress/update", one_too_many).status_code == 413
    assert reporter.post("/progress/update", []).status_code == 400
    assert len(reporter.post("/progress/update", one_too_many[:1000]).json()) == 1000


def test_a_batch_may_end_and_restart_a_tracker(reporter):
    body = [
        {"workflow_id": "a", "percent_complete": 100, "status": "completed"},
        {"workflow_id": "a", "percent_complete": 3, "status": "in_progress", "restart": True},
    ]
    first, second = reporter.post("/progress/update", body).json()
    assert (first["status"], second["status"]) == ("completed", "in_progress")
    assert first["execution_id"] != second["execution_id"]


def test_timestamp_and_metadata_are_kept_in_the_history(reporter):
    reporter.report("t", 5, timestamp="2026-01-02T03:04:05Z", metadata={"epoch": 3})
    last = reporter.get("/progress/t/history").json()["results"][-1]
    assert last["metadata"] == {"epoch": 3}
    assert last["timestamp"].startswith("2026-01-02T03:04:05")


def test_an_idempotency_key_has_one_effect(reporter):
    body = {"workflow_id": "t", "percent_complete": 100, "status": "completed", "restart": True}
    first = reporter.post("/progress/update", body, Idempotency_Key="k1")
    again = reporter.post("/progress/update", body, Idempotency_Key="k1")
    assert first.json() == again.json()
    assert Execution.objects.count() == 1
    other = reporter.post("/progress/update", {**body, "percent_complete": 1}, Idempotency_Key="k1")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert reporter.post("/progress/update", body, Idempotency_Key="k" * 201).status_code == 400
    refused = {**body, "restart": False, "status": "in_progress"}
    assert reporter.post("/progress/update", refused, Idempotency_Key="k2").status_code == 409
    fine = reporter.post("/progress/update", body, Idempotency_Key="k2")
    assert fine.status_code == 200, "an act that was refused does not spend its key"


def test_the_platforms_own_execution_takes_only_a_running_steps_percentage(reporter, make_workflow, owner):
    workflow = make_workflow([noop("a"), noop("b", "a")])
    slug = workflow.slug
    assert reporter.report(slug, 5, step="a").json()["code"] == "not_a_tracker"  # never executed
    execution = executions.start(workflow, by=owner)
    assert reporter.report(slug, 5, step="a").json()["code"] == "not_running"
    claim()
    told = reporter.report(slug, 40, step="a", message="on it", metadata={"n": 1})
    assert told.status_code == 200
    assert told.json()["percent_complete"] == 20
    state = reporter.get(f"/progress/{execution.pk}").json()
    assert state["steps"]["a"]["percent_complete"] == 40
    assert state["steps"]["a"]["message"] == "on it"
    assert reporter.get(f"/progress/{slug}/history").json()["results"][-1]["metadata"] == {"n": 1}
    assert reporter.report(slug, 30, step="a").json()["percent_complete"] == 20
    assert reporter.report(str(execution.pk), 100, "completed", step="a").json()["code"] == "not_a_tracker"
    assert reporter.report(slug, 100, "completed").json()["code"] == "not_a_tracker"
    assert reporter.report(slug, 50).status_code == 400
    assert reporter.report(slug, 50, step="zzz").status_code == 400
    assert reporter.report(slug, 50, step="b").json()["code"] == "not_running"
    check_rows(execution)


def test_a_silent_tracker_is_ended_by_its_deadline(reporter):
    reporter.report("t", 10, step="a")
    execution = Execution.objects.get(workflow__slug="t")
    hours = (execution.deadline_at - execution.updated_at).total_seconds() / 3600
    assert hours == pytest.approx(24, abs=0.01)
    leases.reap()
    execution.refresh_from_db()
    assert execution.status == "in_progress", "not before its deadline"
    Execution.objects.update(deadline_at="2020-01-01T00:00:00Z")
    Task.objects.update(lease_expires_at="2020-01-01T00:00:00Z")  # as the step's own is by then
    leases.reap()
    execution.refresh_from_db()
    assert (execution.status, execution.open_tasks) == ("timed_out", 0)
    check_rows(execution)
    assert reporter.report("t", 20).status_code == 409
    assert reporter.report("t", 20, restart=True).status_code == 200


def test_every_report_pushes_the_deadline(reporter):
    reporter.report("t", 10)
    Execution.objects.update(deadline_at="2020-01-01T00:00:00Z")
    reporter.report("t", 10)
    execution = Execution.objects.get()
    assert execution.deadline_at > execution.updated_at
    assert execution.seq == 2, "an identical report adds nothing to the journal"


def test_who_may_report(anonymous, reader, nobody, reporter, caller, make_user):
    for one, status in ((anonymous, 401), (reader, 403), (nobody, 403)):
        assert one.report("mine", 1).status_code == status
    reporter.report("theirs", 1)
    assert reader.report("theirs", 5).status_code == 403
    owner = caller(make_user("agent"))
    owner.report("own", 1)
    owner.user.roles.set([Role.objects.get(name="guest")])
    assert owner.report("own", 2).status_code == 200, "what one owns one may update"
    denied, unknown = owner.report("theirs", 2), owner.report("unknown", 2)
    assert denied.status_code == unknown.status_code == 403
    assert denied.json() | {"request_id": ""} == unknown.json() | {"request_id": ""}


def test_two_restarts_at_a_time_make_one(reporter, transactional_db):
    reporter.report("t", 100, "completed")
    told = []

    def restart():
        one = trackers.TrackerUpdate(workflow_id="t", status=Status.IN_PROGRESS, percent=1, restart=True)
        told.append(trackers.update([one], by=reporter.user)[0].pk)
        connection.close()

    threads = [threading.Thread(target=restart) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 4
    assert len(set(told)) == 1


REPORTS = st.lists(
    st.tuples(
        st.sampled_from(["", "a", "b"]),
        st.sampled_from(["pending", "in_progress", "waiting", "completed", "failed", "cancelled"]),
        st.floats(0, 100),
    ),
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(reports=REPORTS)
def test_whatever_is_reported_the_rows_hold_and_progress_never_falls(reports, django_db_blocker):
    with django_db_blocker.unblock():
        from apps.accounts.models import User
        from apps.core.errors import Conflict

        user, _ = User.objects.get_or_create(username="reports")
        user.roles.add(Role.objects.get(name="agent"))
        slug = f"h{Workflow.objects.count()}"
        percent = 0.0
        for step, status, told in reports:
            one = trackers.TrackerUpdate(workflow_id=slug, step_id=step, status=Status(status), percent=told)
            try:
                row = trackers.update([one], by=user)[0]
            except Conflict:
                continue
            assert row.percent >= percent
            assert math.isfinite(row.percent)
            assert (row.percent == 100) == (row.status == "completed")
            percent = row.percent
        for row in Execution.objects.filter(workflow__slug=slug):
            check_rows(row)
