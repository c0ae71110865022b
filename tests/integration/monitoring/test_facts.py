"""What the metrics say equals what the tables hold, under bounded labels."""

import random
import threading
from dataclasses import fields
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db.models import F

from apps.core.clock import database_now
from apps.monitoring import facts
from apps.monitoring.sums import Sums
from apps.workflows.models import Execution, OutcomeTotal, Performer
from apps.workflows.selectors.outcomes import ERROR_TYPES
from apps.workflows.selectors.statistics import EXECUTION_BOUNDS, STEP_BOUNDS
from apps.workflows.services import counting, labels
from tests.integration.monitoring.rows import START, make_execution, make_task, make_workflow

pytestmark = pytest.mark.django_db


def error(kind, **more):
    return {"type": kind, "message": "m", "retryable": True, **more}


def test_every_series_of_a_registered_workflow_is_there_at_zero():
    make_workflow("report", "fetch", {"id": "sum", "queue": "gpu"})
    found = facts.gather()
    assert found.executions == {("report", s): 0 for s in ("completed", "failed", "timed_out", "cancelled")}
    statuses = ("completed", "failed", "timed_out", "cancelled", "skipped")
    assert found.steps == {("report", step, s): 0 for step in ("fetch", "sum") for s in statuses}
    assert found.retries == {("report", "fetch"): 0, ("report", "sum"): 0}
    assert found.execution_seconds["report"].within == [0] * len(EXECUTION_BOUNDS)
    assert found.step_seconds["report", "sum"].count == 0
    assert {queue: backlog.depth for queue, backlog in found.queues.items()} == {"default": 0, "gpu": 0}
    assert set(found.errors.values()) == {0}
    assert found.workers == {"live": 0, "draining": 0, "lost": 0}


def test_a_new_version_brings_its_steps_and_the_old_ones_keep_their_counts():
    workflow = make_workflow("report", "old")
    make_execution(workflow, tasks=[{"step_id": "old", "status": "completed"}])
    make_workflow("report", "new", number=2, workflow=workflow)
    found = facts.gather()
    assert found.steps["report", "old", "completed"] == 1
    assert found.steps["report", "new", "completed"] == 0


def test_executions_are_counted_when_they_have_ended():
    workflow = make_workflow("report", "fetch")
    for status in ("completed", "completed", "failed", "cancelled", "in_progress", "pending", "waiting"):
        make_execution(workflow, status)
    found = facts.gather()
    assert found.executions["report", "completed"] == 2
    assert found.executions["report", "failed"] == 1
    assert found.executions["report", "cancelled"] == 1
    assert found.executions["report", "timed_out"] == 0
    assert found.concurrent_workflows == 2


@pytest.mark.parametrize(
    ("seconds", "first_bucket"),
    [(0.05, 0.05), (0.050001, 0.1), (0.049999, 0.05), (1.0, 1.0), (1.000001, 2.5), (86400.0, 86400.0), (86401, None)],
)
def test_durations_fall_into_their_buckets_to_the_microsecond(seconds, first_bucket):
    make_execution(make_workflow("report"), seconds=seconds)
    tally = facts.gather().execution_seconds["report"]
    assert tally.count == 1
    assert tally.microseconds == round(seconds * 1_000_000)
    assert tally.within == [int(first_bucket is not None and bound >= first_bucket) for bound in EXECUTION_BOUNDS]


def test_what_never_began_is_counted_and_has_no_duration():
    make_execution(make_workflow("report"), "cancelled", begun=False)
    found = facts.gather()
    assert found.executions["report", "cancelled"] == 1
    assert found.execution_seconds["report"].count == 0


def test_a_clock_set_back_never_makes_a_sum_fall():
    make_execution(make_workflow("report"), seconds=-5)
    tally = facts.gather().execution_seconds["report"]
    assert (tally.count, tally.microseconds) == (1, 0)


def test_steps_are_counted_once_with_the_time_of_their_last_attempt():
    workflow = make_workflow("report", "fetch", "sum")
    tasks = [
        {"step_id": "fetch", "status": "completed", "seconds": 0.2, "failures": 2, "losses": 1, "fence": 4},
        {"step_id": "sum", "status": "skipped", "begun": False},
    ]
    make_execution(workflow, tasks=tasks)
    found = facts.gather()
    assert found.steps["report", "fetch", "completed"] == 1
    assert found.steps["report", "sum", "skipped"] == 1
    assert found.step_seconds["report", "fetch"].within == [int(bound >= 0.2) for bound in STEP_BOUNDS]
    assert found.step_seconds["report", "sum"].count == 0
    assert found.retries["report", "fetch"] == 3


@pytest.mark.parametrize(
    ("task", "retries"),
    [
        ({"status": "failed", "failures": 3, "error": error("error")}, 2),
        ({"status": "failed", "failures": 1, "error": error("error")}, 0),
        ({"status": "failed", "failures": 1, "losses": 4, "error": error("lost")}, 4),
        ({"status": "failed", "failures": 0, "begun": False, "error": error("invalid")}, 0),
        ({"status": "waiting", "failures": 1, "error": error("error")}, 1),
        ({"status": "in_progress", "failures": 0, "losses": 1}, 1),
        ({"status": "cancelled", "failures": 1}, 1),
    ],
)
def test_retries_are_the_attempts_after_which_the_task_went_on(task, retries):
    workflow = make_workflow("report", "fetch")
    execution = make_execution(workflow, "in_progress", tasks=[])
    execution.tasks_total = 1
    execution.save()
    make_task(execution, 1, step_id="fetch", **task)
    assert facts.gather().retries["report", "fetch"] == retries


def test_errors_are_counted_by_a_closed_list_of_types_and_once():
    workflow = make_workflow("report", "a", "b", "c")
    own = {"status": "failed", "failures": 1}
    tasks = [
        {"step_id": "a", **own, "error": error("exit_code", exit_code=2)},
        {"step_id": "b", **own, "error": error("whatever somebody wrote")},
        {"step_id": "c", "status": "timed_out", "failures": 1, "error": error("timeout")},
    ]
    make_execution(workflow, "failed", tasks=tasks, error=error("exit_code", step_id="a"))
    make_execution(workflow, "timed_out", error=error("timeout"))
    make_execution(workflow, "failed", error=None)
    make_execution(workflow, "completed", tasks=[{"step_id": "a", "status": "completed", "error": error("oom")}])
    counted = {kind: number for kind, number in facts.gather().errors.items() if number}
    assert counted == {"exit_code": 1, "timeout": 2, "other": 2}


def test_trackers_share_one_label():
    for slug in ("one", "two"):
        tracker = make_workflow(slug, kind="tracker")
        make_execution(tracker, tasks=[{"step_id": f"step-of-{slug}", "status": "completed"}])
    found = facts.gather()
    assert {label for label, _ in found.executions} == {"tracker"}
    assert found.executions["tracker", "completed"] == 2
    assert found.steps["tracker", "tracker", "completed"] == 2


def test_labels_are_capped_and_what_overflows_is_counted_as_other(monkeypatch):
    monkeypatch.setattr(labels, "MAX_WORKFLOWS", 2)
    monkeypatch.setattr(labels, "MAX_STEPS", 3)
    for number in range(4):
        workflow = make_workflow(f"w{number}", "a", "b")
        make_execution(workflow, tasks=[{"step_id": step, "status": "completed"} for step in ("a", "b")])
    found = facts.gather()
    assert set(found.execution_seconds) == {"w0", "w1", "other"}
    assert found.executions["other", "completed"] == 2
    assert set(found.step_seconds) == {("w0", "a"), ("w0", "b"), ("w1", "a"), ("other", "other")}
    assert found.steps["other", "other", "completed"] == 5
    assert sum(found.steps.values()) == 8
    assert found.overflow == 7


def test_the_queue_holds_what_could_be_claimed_now():
    now = database_now()
    workflow = make_workflow("report", "a", "b", "c", {"id": "d", "queue": "gpu"})
    execution = make_execution(
        workflow,
        "in_progress",
        tasks=[
            {"step_id": "a", "status": "pending", "ready_at": now - timedelta(seconds=90)},
            {"step_id": "b", "status": "waiting", "ready_at": now - timedelta(seconds=5)},
            {"step_id": "c", "status": "waiting", "ready_at": now + timedelta(hours=1)},
            {"step_id": "d", "status": "in_progress", "queue": "gpu"},
        ],
        ready_at=now,
    )
    make_task(execution, 5, step_id="e", status="in_progress", lease_owner="tracker")
    found = facts.gather()
    assert found.queues["default"].depth == 2
    assert 90 <= found.queues["default"].oldest_seconds < 600
    assert (found.queues["gpu"].depth, found.queues["gpu"].oldest_seconds) == (0, 0.0)
    assert found.concurrent_steps == 1


def test_a_worker_silent_for_a_lease_is_lost(set_env):
    set_env(LEASE_SECONDS=1000)
    now = database_now()
    for name, seconds, kind, draining in [
        ("a", 1, "worker", False), ("b", 1, "worker", True), ("c", 1001, "worker", False), ("d", 1, "agent", False),
    ]:  # fmt: skip
        seen = now - timedelta(seconds=seconds)
        Performer.objects.create(name=name, kind=kind, slots=1, draining=draining, started_at=seen, seen_at=seen)
    assert facts.gather().workers == {"live": 1, "draining": 1, "lost": 1}


def test_reading_takes_a_bounded_number_of_queries(django_assert_max_num_queries):
    for number in range(20):
        make_execution(make_workflow(f"w{number}", "a"), tasks=[{"step_id": "a", "status": "completed"}])
    with django_assert_max_num_queries(18):
        facts.gather()


def test_definitions_are_read_once(django_assert_max_num_queries):
    make_workflow("report", "a")
    facts.gather()
    with django_assert_max_num_queries(18) as asked:
        facts.gather()
    assert not any("definition" in query["sql"] for query in asked.captured_queries)


def test_what_is_remembered_between_scrapes_is_what_a_fresh_look_finds():
    """Whatever happened in between: more ended, a total shrank or went, a label came, a workflow was deleted."""
    chance = random.Random(1)
    cache = facts.Cache()
    made = [make_workflow("w0", "a", "b")]
    for round_ in range(25):
        match chance.randrange(5):
            case 0:
                made.append(make_workflow(f"w{len(made)}-{round_}", "a", {"id": "b", "queue": f"q{round_}"}))
            case 1 if len(made) > 2:
                gone = made.pop(chance.randrange(len(made)))
                Execution.objects.filter(workflow=gone).delete()
                gone.delete()
            case 2:
                OutcomeTotal.objects.filter(status="failed").update(count=F("count") + 3, retries=F("retries") + 1)
            case 3:
                OutcomeTotal.objects.filter(what="task", status="completed").delete()  # as after a restore
        for _ in range(3):
            status = chance.choice(("completed", "failed", "in_progress"))
            task = {"step_id": chance.choice("ab"), "status": status, "failures": 1, "queued_at": START}
            make_execution(chance.choice(made), status, seconds=chance.random() * 9, tasks=[task])
        if chance.random() < 0.6:
            counting.count_ended()
        cache.expire()
        remembered, fresh = cache.get(), facts.gather()
        for name in (one.name for one in fields(Sums)):
            assert getattr(remembered, name) == getattr(fresh, name), (round_, name)


def test_what_was_remembered_is_not_relied_on_after_a_reading_that_broke_off(monkeypatch):
    workflow = make_workflow("report", "a")
    make_execution(workflow, tasks=[{"step_id": "a", "status": "completed"}])
    counting.count_ended()
    cache = facts.Cache()
    cache.get()
    make_execution(workflow, tasks=[{"step_id": "a", "status": "completed"}])
    counting.count_ended()
    with monkeypatch.context() as broken:
        broken.setattr(facts, "_queues", lambda *_: 1 / 0)
        cache.expire()
        with pytest.raises(ZeroDivisionError):
            cache.get()
    assert cache.get().steps["report", "a", "completed"] == 2


def test_scrapes_at_the_same_time_read_the_database_once(monkeypatch):
    readings = []
    reading, arrived = threading.Event(), threading.Barrier(5)

    def gather(_):
        readings.append(1)
        reading.wait(60)
        return facts.Facts(at=0.0)

    monkeypatch.setattr(facts, "gather", gather)
    monkeypatch.setattr(facts, "MAX_AGE_SECONDS", 600.0)
    cache = facts.Cache()

    def scrape():
        arrived.wait(60)
        cache.get()

    threads = [threading.Thread(target=scrape) for _ in range(4)]
    for thread in threads:
        thread.start()
    arrived.wait(60)
    reading.set()
    for thread in threads:
        thread.join()
    assert len(readings) == 1


def test_facts_are_at_most_a_second_old(monkeypatch):
    readings = []
    monkeypatch.setattr(facts, "gather", lambda _: readings.append(1) or facts.Facts(at=0.0))
    clock = [1000.0]
    monkeypatch.setattr(facts, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    cache = facts.Cache()
    cache.get()
    clock[0] += facts.MAX_AGE_SECONDS
    cache.get()
    assert len(readings) == 1
    clock[0] += 0.001
    cache.get()
    assert (len(readings), facts.MAX_AGE_SECONDS) == (2, 1.0)


def test_error_types_are_those_that_executors_may_give():
    from apps.executors.types import StepError

    named = {kind for kind in ERROR_TYPES if f"`{kind}`" in (StepError.__doc__ or "")}
    assert named == set(ERROR_TYPES)
