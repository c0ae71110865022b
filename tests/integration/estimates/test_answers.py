"""`GET /progress/{id}/estimate` over what really lies in the database."""

from datetime import timedelta

import pytest
from guardian.shortcuts import assign_perm

from apps.core.clock import database_now
from apps.workflows.models import Execution, Performer, Task
from apps.workflows.selectors.estimates.situation import UNKNOWN_SLOTS, slots_for
from apps.workflows.services import breakers, executions
from apps.workflows.services.estimates.folding import fold
from tests.integration.conftest import noop
from tests.integration.estimates.conftest import stretch
from tests.integration.workflows.driver import accepted, claim, done, drive, failed

pytestmark = pytest.mark.django_db

MEMBERS = {
    "workflow_id", "execution_id", "status", "percent_complete", "estimated_completion_time",
    "estimated_remaining_seconds", "steps_total", "steps_completed", "steps_in_progress", "steps_failed",
    "steps_pending", "steps_skipped", "steps_cancelled", "p10", "p50", "p90", "method", "basis_executions",
    "measured_coverage", "blocked_by", "reason",
}  # fmt: skip


@pytest.fixture
def workflow(make_workflow):
    return make_workflow([noop("a"), noop("b", "a")], name="Report")


def began(execution, seconds):
    """As if the execution, and what runs of it, had begun so many seconds ago."""
    at = database_now() - timedelta(seconds=seconds)
    Execution.objects.filter(pk=execution.pk).update(started_at=at)
    Task.objects.filter(execution=execution, status="in_progress").update(started_at=at)


def nothing(told):
    return [
        told[name]
        for name in ("estimated_completion_time", "estimated_remaining_seconds", "p10", "p50", "p90", "method")
    ] == [None] * 6


def test_without_history_nothing_is_invented(reader, workflow, owner):
    executions.start(workflow, by=owner)
    claim()
    told = reader.get("/progress/report/estimate").json()
    assert set(told) == MEMBERS
    assert nothing(told)
    assert "no execution" in told["reason"]
    assert (told["basis_executions"], told["measured_coverage"]) == (0, None)
    assert (told["steps_total"], told["steps_in_progress"], told["steps_pending"]) == (2, 1, 1)


def test_what_has_not_been_learnt_yet_is_not_known(reader, workflow, owner, past):
    past(workflow, {"a": 10, "b": 30}, learnt=False)
    executions.start(workflow, by=owner)
    claim()
    assert nothing(reader.get("/progress/report/estimate").json())
    fold(workflow.pk)
    assert reader.get("/progress/report/estimate").json()["p50"] == pytest.approx(40, rel=0.3)


def test_an_estimate_rests_on_the_steps_that_are_left(reader, workflow, owner, past):
    past(workflow, *[{"a": 100 + k, "b": 300 - k} for k in range(5)])
    execution = executions.start(workflow, by=owner)
    tasks = claim()
    told = reader.get("/progress/report/estimate").json()
    assert set(told) == MEMBERS
    assert told["basis_executions"] == 5
    assert told["p50"] == told["estimated_remaining_seconds"] == pytest.approx(400, rel=0.2)
    assert 0 < told["p10"] <= told["p50"] <= told["p90"]
    assert told["method"] in ("monte_carlo", "work_weighted", "median_of_last_runs")
    assert told["estimated_completion_time"] > database_now().isoformat()
    began(execution, 102)
    accepted(done(tasks["a"]))
    claim()
    assert reader.get("/progress/report/estimate").json()["p50"] == pytest.approx(300, rel=0.2)


def test_a_run_that_is_slow_so_far_is_foretold_to_stay_slow(reader, workflow, owner, past):
    past(workflow, *[{"a": 100 * f, "b": 300 * f} for f in (1, 2, 0.5, 1.5, 0.8, 1.2)])
    execution = executions.start(workflow, by=owner)
    tasks = claim()
    began(execution, 200)
    accepted(done(tasks["a"]))
    claim()
    assert reader.get("/progress/report/estimate").json()["p50"] > 420


def test_the_coverage_of_past_intervals_is_measured(reader, workflow, owner, past):
    past(workflow, {"a": 100, "b": 300})
    executions.start(workflow, by=owner)
    tasks = claim()
    told = reader.get("/progress/report/estimate").json()
    assert told["measured_coverage"] is None
    assert "too few" in told["reason"]
    accepted(done(tasks["a"]))
    drive()
    past(workflow, *[{"a": 100 + k, "b": 300 + k} for k in range(3)])
    executions.start(workflow, by=owner)
    claim()
    told = reader.get("/progress/report/estimate").json()
    assert 0 <= told["measured_coverage"] <= 1
    assert told["reason"] is None


def test_the_slots_are_those_that_it_holds_and_that_are_free_or_its_fair_share(make_workflow, owner):
    wide = make_workflow([noop(f"s{n}") for n in range(8)], name="Wide")
    first, now = executions.start(wide, by=owner), database_now()
    assert slots_for(first, now) == 4
    assert len(claim(3)) == 3
    second = executions.start(wide, by=owner)
    assert slots_for(first, now) == 3 + 1
    assert slots_for(second, now) == 2, "one is free, and half of four is fair"
    Performer.objects.update(slots=12)
    assert (slots_for(first, now), slots_for(second, now)) == (12, 9)
    Performer.objects.update(draining=True)
    assert slots_for(first, now) == UNKNOWN_SLOTS, "how many there are when one comes is not known"


def test_items_count_as_they_are_known(reader, make_workflow, owner):
    steps = [noop("load", for_each="${inputs.numbers}", max_parallel=1)]
    workflow = make_workflow(steps, name="Load", inputs={"numbers": {"type": "array"}})
    for _ in range(3):
        execution = executions.start(workflow, by=owner, inputs={"numbers": list(range(5))})
        drive()
        execution.refresh_from_db()
        items = Task.objects.filter(execution=execution, step_id__contains="[").order_by("pk")
        start = execution.finished_at - timedelta(seconds=50)
        for number, task in enumerate(items):
            begin = start + timedelta(seconds=10 * number)
            Task.objects.filter(pk=task.pk).update(started_at=begin, finished_at=begin + timedelta(seconds=10))
        Execution.objects.filter(pk=execution.pk).update(started_at=start)
        fold(workflow.pk)
    executions.start(workflow, by=owner, inputs={"numbers": list(range(20))})
    claim()
    assert reader.get("/progress/load/estimate").json()["p50"] == pytest.approx(200, rel=0.3)


def test_an_approval_blocks_and_says_so(reader, make_workflow, owner, past):
    workflow = make_workflow([noop("a"), {"id": "ok", "approval": {"who": ["admin"]}, "depends_on": ["a"]}], name="Ask")
    executions.start(workflow, by=owner)
    drive()
    told = reader.get("/progress/ask/estimate").json()
    assert nothing(told)
    assert [(one["step_id"], one["code"]) for one in told["blocked_by"]] == [("ok", "approval")]
    assert "blocked" in told["reason"]


@pytest.mark.parametrize("block", [{"approval": {"who": ["admin"]}}, {"wait": {"signal": "go"}}, "requires"])
def test_a_block_is_seen_behind_many_steps_that_go_on(reader, make_workflow, owner, block):
    last = {"id": "last", **block} if isinstance(block, dict) else noop("last", requires=["gpu >= 1"])
    workflow = make_workflow([*[noop(f"s{n}") for n in range(30)], last], name="Wide")
    executions.start(workflow, by=owner)
    claim(1)  # the others stand in line, and will be taken
    told = reader.get("/progress/wide/estimate").json()
    assert nothing(told)
    assert [one["step_id"] for one in told["blocked_by"]] == ["last"]


def test_what_blocks_a_sub_workflow_blocks_its_step_and_is_told_to_who_may_read_it(
    reader, nobody, make_workflow, owner, past
):
    make_workflow([{"id": "ok", "approval": {"who": ["admin"]}}], name="Inner")
    middle = make_workflow([{"id": "deeper", "workflow": {"id": "inner"}}], name="Middle")
    outer = make_workflow([{"id": "sub", "workflow": {"id": "middle"}}, noop("b", "sub")], name="Outer")
    executions.start(outer, by=owner)
    drive()
    told = reader.get("/progress/outer/estimate").json()
    assert nothing(told)
    assert [(one["step_id"], one["code"]) for one in told["blocked_by"]] == [("sub", "approval")]
    assert "`middle`" in told["reason"]
    assert "`inner`" in told["reason"]
    assign_perm("workflow:read", nobody.user, outer)
    hidden = nobody.get("/progress/outer/estimate").json()
    assert nothing(hidden)
    assert [(one["step_id"], one["code"]) for one in hidden["blocked_by"]] == [("sub", "sub_workflow")]
    assert "inner" not in str(hidden)
    assert "middle" not in str(hidden)
    assign_perm("workflow:read", nobody.user, middle)
    half = nobody.get("/progress/outer/estimate").json()
    assert "middle" in half["reason"]
    assert "inner" not in str(half)


def test_a_sub_workflow_that_goes_on_blocks_nothing(reader, make_workflow, owner):
    make_workflow([noop("work")], name="Inner")
    outer = make_workflow([{"id": "sub", "workflow": {"id": "inner"}}], name="Outer")
    execution = executions.start(outer, by=owner)
    told = reader.get("/progress/outer/estimate").json()
    assert told["blocked_by"] == []
    child = Execution.objects.get(parent_task__execution=execution)
    executions.pause(child, by=owner)
    told = reader.get("/progress/outer/estimate").json()
    assert [(one["step_id"], one["code"]) for one in told["blocked_by"]] == [("sub", "paused")]


def test_without_a_performer_it_is_blocked_by_that(reader, workflow, owner, past):
    past(workflow, {"a": 10, "b": 30})
    Performer.objects.all().delete()
    executions.start(workflow, by=owner)
    told = reader.get("/progress/report/estimate").json()
    assert nothing(told)
    assert [one["code"] for one in told["blocked_by"]] == ["no_performer"]


@pytest.mark.django_db(transaction=True)  # calls are counted after their commit
def test_an_open_circuit_breaker_blocks_and_says_so_until_it_is_reset(reader, make_workflow, owner, past):
    guarded = {"circuit_breaker": {"name": "warehouse", "failures": 1, "ratio": 0.1, "open_seconds": 60}}
    workflow = make_workflow([noop("a", **guarded), noop("b", **guarded)], name="Guarded")
    past(workflow, {"a": 10, "b": 30})
    executions.start(workflow, by=owner)
    accepted(failed(claim(1)["a"], type="connection", message="refused"))
    assert not claim()
    told = reader.get("/progress/guarded/estimate").json()
    assert nothing(told)
    assert [(one["step_id"], one["code"]) for one in told["blocked_by"]] == [("b", "breaker")]
    assert "warehouse" in told["reason"]
    breakers.reset("warehouse", by=owner)
    told = reader.get("/progress/guarded/estimate").json()
    assert told["blocked_by"] == []
    assert told["p50"] == pytest.approx(30, rel=0.5)


def test_paused_work_has_no_end_that_could_be_told(reader, workflow, owner, past):
    past(workflow, {"a": 10, "b": 30})
    execution = executions.start(workflow, by=owner)
    claim()
    executions.pause(execution, by=owner)
    told = reader.get("/progress/report/estimate").json()
    assert nothing(told)
    assert "paused" in told["reason"]


def test_what_has_ended_or_not_begun(reader, workflow, owner, past):
    past(workflow, {"a": 10, "b": 30})
    told = reader.get("/progress/report/estimate").json()
    assert (told["estimated_remaining_seconds"], told["reason"]) == (0, "it has ended")
    executions.start(workflow, by=owner)
    told = reader.get("/progress/report/estimate").json()
    assert nothing(told)
    assert "not started" in told["reason"]


def test_a_tracker_is_judged_by_its_own_past(reader, reporter):
    assert reporter.report("t", 1).status_code == 200
    assert nothing(reader.get("/progress/t/estimate").json())
    for _ in range(4):
        for percent, status in ((50, "in_progress"), (100, "completed")):
            assert reporter.report("t", percent, status).status_code == 200
        execution = Execution.objects.filter(workflow__slug="t").latest("id")
        Execution.objects.filter(pk=execution.pk).update(started_at=execution.finished_at - timedelta(seconds=100))
        fold(execution.workflow_id)
        assert reporter.report("t", 0, restart=True).status_code == 200
    told = reader.get("/progress/t/estimate").json()
    assert told["basis_executions"] == 4
    assert 0 < told["p50"] < 200


def test_a_retry_of_another_execution_teaches_nothing(workflow, owner, past):
    made = past(workflow, {"a": 10, "b": 30})[0]
    again = executions.fork(made, "b", by=owner)
    drive()
    stretch(again, a=0, b=3)
    fold(workflow.pk)
    from apps.workflows.models import PastRun

    assert list(PastRun.objects.values_list("execution_id", flat=True)) == [made.pk]
