"""What is old goes, in small transactions; what is needed stays; and metrics do not notice."""

import contextlib
import io
import json
import random
import re
import threading
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import connection
from django.db.models import F

from apps.accounts.models import RefreshFamily, RefreshToken
from apps.core import retention as pruning
from apps.core.clock import database_now
from apps.monitoring import facts
from apps.monitoring.collectors import find
from apps.monitoring.exposition import rendered
from apps.monitoring.families import FROM_THE_DATABASE
from apps.vault import blobs
from apps.workflows.engine.ids import new_execution_id
from apps.workflows.models import (
    Artifact,
    CachedResult,
    Event,
    Execution,
    IdempotencyKey,
    LogChunk,
    Notification,
    OutcomeTotal,
    RateLimit,
    Schedule,
    Task,
    Workflow,
)
from apps.workflows.selectors.invariants import verdict
from apps.workflows.selectors.outcomes import Outcome, of_total, to_keep
from apps.workflows.services import executions, retention, workflows
from tests.integration.conftest import noop
from tests.integration.monitoring.rows import make_execution, make_task
from tests.integration.monitoring.rows import make_workflow as registered
from tests.integration.workflows.driver import drive

pytestmark = pytest.mark.django_db

MONTH = timedelta(days=31)


def ended(execution, ago=MONTH):
    """As if it had begun and ended so long ago."""
    moment = database_now() - ago
    Execution.objects.filter(pk=execution.pk).update(
        created_at=moment, started_at=moment, updated_at=moment, finished_at=moment + timedelta(seconds=1)
    )


def run(workflow, owner, ago=MONTH):
    """An execution from its start to its end, so long ago."""
    execution = executions.start(workflow, by=owner)
    drive()
    ended(execution, ago)
    return execution


@pytest.fixture
def keep_none(monkeypatch):
    """No execution is kept for estimates: as for a workflow that ran more than twenty times since."""
    monkeypatch.setattr(retention, "_ended", _all_old)


def _all_old(now):
    return Execution.objects.filter(finished_at__lt=now - timedelta(days=30))


def metrics():
    facts.cache.forget()
    text = rendered([find(declared.name) for declared in FROM_THE_DATABASE], accept="")[0].decode()
    facts.cache.forget()
    return re.sub(r"(?m)^dagger_(metrics_last|queue_oldest).*\n", "", text)


# --- what goes and what stays -----------------------------------------------------------------------------------------


def test_old_executions_go_with_all_that_hangs_on_them(make_workflow, owner, keep_none):
    workflow = make_workflow([noop("a"), noop("b", "a")])
    old, young = run(workflow, owner), run(workflow, owner, ago=timedelta(days=29))
    for execution in (old, young):
        task = Task.objects.get(execution=execution, step_id="a")
        LogChunk.objects.create(task=task, fence=1, number=1, stream="stdout", text="x", at=database_now())
        Notification.objects.create(execution=execution, receiver_name="ops", created_at=database_now())
        blob = blobs.keep(io.BytesIO(b"of a step"))
        Artifact.objects.create(
            execution=execution, task=task, fence=1, name="a", size=blob.size, blob_id=blob.digest,
            created_at=database_now(),
        )  # fmt: skip
    gone = retention.run(database_now())
    assert gone.finished
    assert gone.counts == {
        "workflows_execution": 1, "workflows_task": 2, "workflows_event": old.seq + 6,
        "workflows_logchunk": 1, "workflows_notification": 1, "workflows_artifact": 1,
    }  # fmt: skip
    assert [row.pk for row in Execution.objects.all()] == [young.pk]
    for model in (Task, Event, Notification, Artifact):
        assert set(model.objects.values_list("execution", flat=True)) == {young.pk}
    assert LogChunk.objects.get().task.execution_id == young.pk
    assert not verdict().violations
    assert retention.run(database_now()).counts == {}


def test_an_open_execution_stays_whatever_its_age(make_workflow, owner, keep_none):
    execution = executions.start(make_workflow([noop("a")]), by=owner)
    Execution.objects.update(created_at=database_now() - 3 * MONTH, started_at=database_now() - 3 * MONTH)
    assert retention.run(database_now() + 3 * MONTH).counts == {}
    assert Execution.objects.get().pk == execution.pk


def test_the_newest_twenty_completed_of_each_workflow_stay():
    first, second = registered("first", "a"), registered("second", "a")
    kept = {make_execution(second).pk for _ in range(20)}
    made = [make_execution(first).pk for _ in range(25)]
    failed = [make_execution(first, "failed").pk for _ in range(3)]
    kept |= set(made[-20:])
    assert retention.count(database_now())["workflows_execution"] == 8
    assert retention.run(database_now()).counts["workflows_execution"] == 8
    assert set(Execution.objects.values_list("pk", flat=True)) == kept
    assert not set(failed) & kept


def test_what_is_not_yet_told_to_its_parent_stays():
    workflow = registered("child", "a")
    parent = make_execution(workflow, "in_progress", tasks=[{"step_id": "a", "status": "in_progress"}])
    owing = make_execution(workflow, "failed", owes_parent=True, parent_task=parent.tasks.get())
    make_execution(workflow, "failed", parent_task=parent.tasks.get())
    make_execution(workflow, "failed", owes_parent=True)  # its parent was deleted
    retention.run(database_now())
    assert {row.pk for row in Execution.objects.all()} == {parent.pk, owing.pk}


def test_what_came_from_a_pruned_execution_only_forgets_it(owner):
    workflow = registered("report", "a")
    old = make_execution(workflow, "failed", tasks=[{"step_id": "a", "status": "failed"}])
    child = make_execution(workflow, "in_progress", parent_task=old.tasks.get())
    fork = make_execution(workflow, "in_progress", origin=old)
    retention.run(database_now())
    child.refresh_from_db()
    fork.refresh_from_db()
    assert (child.parent_task, fork.origin) == (None, None)
    assert Execution.objects.count() == 2


def test_logs_go_earlier_than_their_execution(make_workflow, owner):
    execution = run(make_workflow([noop("a")]), owner, ago=timedelta(0))
    task = execution.tasks.get()
    now = database_now()
    for number in range(5):
        moment = now + timedelta(days=number)
        LogChunk.objects.create(task=task, fence=1, number=number, stream="stdout", text="x", at=moment)
    later = now + timedelta(days=16, seconds=1)
    assert retention.count(later)["workflows_logchunk"] == 3
    assert retention.run(later).counts == {"workflows_logchunk": 3}
    assert list(LogChunk.objects.order_by("number").values_list("number", flat=True)) == [3, 4]


def test_the_days_are_settings(settings):
    settings.ENV = settings.ENV.model_copy(update={"RETENTION_DAYS": 100})
    execution = make_execution(registered("report", "a"), "failed")
    ended(execution, timedelta(days=99))
    assert retention.run(database_now()).counts == {}
    ended(execution, timedelta(days=101))
    assert retention.run(database_now()).counts["workflows_execution"] == 1


def test_small_tables_are_pruned_each_by_its_own_limit(owner):
    now = database_now()
    workflow = registered("report", "a")
    for name, age in (("old", 25), ("young", 23)):
        IdempotencyKey.objects.create(
            user=owner, key=name, digest="0", answer={}, created_at=now - timedelta(hours=age)
        )
        RateLimit.objects.create(name=name, free_at=now - timedelta(hours=age))
        gone = timedelta(seconds=-1 if name == "old" else 60)
        CachedResult.objects.create(
            workflow=workflow, digest=name, execution_id=new_execution_id(), outputs={}, expires_at=now + gone
        )
        Session.objects.create(session_key=name, session_data="", expire_date=now + gone)
        family = RefreshFamily.objects.create(user=owner, expires_at=now + gone)
        RefreshToken.objects.create(jti=new_execution_id(), family=family, expires_at=now + gone)
    assert sum(retention.count(now).values()) == 5
    assert sum(retention.run(now).counts.values()) == 5
    assert [row.key for row in IdempotencyKey.objects.all()] == ["young"]
    assert [row.name for row in RateLimit.objects.all()] == ["young"]
    assert [row.digest for row in CachedResult.objects.all()] == ["young"]
    assert [row.session_key for row in Session.objects.all()] == ["young"]
    assert RefreshFamily.objects.count() == RefreshToken.objects.count() == 1


def test_versions_of_ad_hoc_tasks_go_with_their_last_execution():
    tasks = registered("tasks-bob", "a", kind="tasks")
    make_execution(tasks, "failed")
    for number in (2, 3, 4):
        registered("tasks-bob", "a", number=number, workflow=tasks)
    running = make_execution(tasks, "in_progress")
    registered("tasks-bob", "a", number=5, workflow=tasks)
    ordinary = registered("report", "a")
    registered("report", "b", number=2, workflow=ordinary)
    counts = retention.run(database_now()).counts
    assert (counts["workflows_workflowversion"], counts["workflows_execution"]) == (3, 1)
    assert set(tasks.versions.values_list("number", flat=True)) == {4, 5}
    assert running.version.number == 4
    assert ordinary.versions.count() == 2


# --- how --------------------------------------------------------------------------------------------------------------


def test_batches_are_bounded_and_rest_between(monkeypatch):
    workflow = registered("report", "a")
    for _ in range(7):
        make_execution(workflow, "failed")
    monkeypatch.setattr(retention, "AT_ONCE", 3)
    left = []
    pruning.run(retention.RULES, database_now(), pause=lambda _: left.append(Execution.objects.count()))
    assert left == [4, 1, 0]


def test_large_executions_make_small_batches(monkeypatch):
    workflow = registered("report", "a")
    for _ in range(4):
        make_execution(workflow, "failed", seq=100)
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 250)
    left = []
    pruning.run(retention.RULES, database_now(), pause=lambda _: left.append(Execution.objects.count()))
    assert left == [2, 0]
    make_execution(workflow, "failed", seq=1000)
    assert retention.run(database_now()).counts["workflows_execution"] == 1


def test_a_budget_that_is_spent_ends_it_and_the_next_call_goes_on(monkeypatch):
    workflow = registered("report", "a")
    for _ in range(3):
        make_execution(workflow, "failed")
    assert not retention.run(database_now(), 0).finished
    assert Execution.objects.count() == 3
    assert retention.run(database_now(), 60).finished
    assert not Execution.objects.exists()


def test_kept_rows_are_not_looked_at_in_every_batch(monkeypatch, django_assert_max_num_queries):
    workflow = registered("report", "a")
    for _ in range(20):
        make_execution(workflow, tasks=[{"step_id": "a", "status": "completed"}])
    for _ in range(40):
        make_execution(workflow, "failed", tasks=[{"step_id": "a", "status": "failed"}])
    with django_assert_max_num_queries(55):  # whatever the number of executions
        assert retention.run(database_now()).counts["workflows_execution"] == 40


def test_deleting_a_workflow_forgets_what_was_pruned_of_it(make_workflow, owner, keep_none):
    workflow, other = make_workflow([noop("a")]), make_workflow([noop("a")])
    run(workflow, owner)
    run(other, owner)
    Schedule.objects.create(
        workflow=workflow, name="n", cron="* * * * *", created_at=database_now(), updated_at=database_now()
    )
    before = metrics()
    retention.run(database_now())
    assert metrics() == before
    run(workflow, owner)
    workflows.delete(workflow)
    assert set(OutcomeTotal.objects.values_list("workflow", flat=True)) == {other.pk}
    assert Workflow.objects.get().pk == other.pk
    assert not Execution.objects.exists()
    assert workflow.slug not in metrics()


def test_the_command_prunes_and_a_dry_run_only_tells():
    make_execution(registered("report", "a"), "failed", tasks=[{"step_id": "a", "status": "failed"}])

    def say(*options):
        out = io.StringIO()
        call_command("prune", *options, stdout=out)
        return out.getvalue().splitlines()

    told = say("--dry-run")
    assert told == ["workflows_execution: 1", "workflows_task: 1", "2 rows would go"]
    assert Execution.objects.count() == 1
    assert say() == ["workflows_execution: 1", "workflows_task: 1", "2 rows pruned"]
    assert say() == ["0 rows pruned"]


# --- metrics ----------------------------------------------------------------------------------------------------------

ERRORS = ["timeout", "exit_code", "lost", "something of somebody's", None]


def a_world(seed):
    """Workflows of every kind with executions in every state, some old and some not."""
    chance = random.Random(seed)
    made = []
    for number in range(chance.randint(2, 5)):
        kind = chance.choice(["workflow", "workflow", "tracker", "tasks"])
        workflow = registered(f"w-{seed}-{number}", "a", "b", kind=kind)
        if chance.random() < 0.4:
            registered(workflow.slug, "b", "c", number=2, workflow=workflow)
        made += [_an_execution(chance, workflow) for _ in range(chance.randint(0, 12))]
    for execution in made:
        if execution.finished_at and chance.random() < 0.7:
            continue  # the rows of tests are old from the beginning
        _shift(execution, database_now() - timedelta(days=chance.randint(1, 29)))
    return made


def _an_execution(chance, workflow):
    status = chance.choice(["completed", "completed", "failed", "timed_out", "cancelled", "in_progress", "pending"])
    over = status not in ("in_progress", "pending")
    error = {"type": kind} if status in ("failed", "timed_out") and (kind := chance.choice(ERRORS)) else None
    if error and chance.random() < 0.5:
        error["step_id"] = "a"
    execution = make_execution(
        workflow, status, seconds=chance.choice([0, 0.03, 0.7, 59.9, 7000, 10**6]), error=error,
        **({} if status == "pending" else {"begun": chance.random() < 0.9}),
    )  # fmt: skip
    if not over:
        return execution
    for ordinal, step in enumerate(chance.sample(["a", "b", "old", "a[0]", "a[17]", "ä"], chance.randint(1, 5)), 1):
        ends = chance.choice(["completed", "failed", "skipped", "timed_out", "cancelled"])
        bad = ends in ("failed", "timed_out")
        make_task(
            execution, ordinal, step_id=step, status=ends, seconds=chance.choice([0.004, 0.2, 3.1, 4000.5]),
            begun=chance.random() < 0.8, failures=chance.randint(0, 3), losses=chance.randint(0, 1),
            error={"type": chance.choice(ERRORS)} if bad else None,
        )  # fmt: skip
    return execution


def _shift(execution, moment):
    """To another time, of the same length."""
    execution.refresh_from_db()
    by = moment - execution.created_at
    for rows in (Execution.objects.filter(pk=execution.pk), Task.objects.filter(execution=execution)):
        rows.update(**{name: F(name) + by for name in ("started_at", "finished_at")})


@pytest.mark.parametrize("seed", range(12))
def test_metrics_say_the_same_before_between_and_after(seed, monkeypatch):
    """In any world, however the batches are cut, and wherever it is killed."""
    chance = random.Random(seed * 7919)
    a_world(seed)
    before = metrics()
    monkeypatch.setattr(retention, "AT_ONCE", chance.randint(1, 4))
    monkeypatch.setattr(retention, "NEWEST_KEPT", chance.randint(1, 4))

    class Killed(BaseException):
        pass

    def look(_seconds):
        assert metrics() == before
        if chance.random() < 0.4:
            raise Killed

    finished = False
    while not finished:
        with contextlib.suppress(Killed):
            finished = pruning.run(retention.RULES, database_now(), pause=look).finished
    assert metrics() == before
    assert retention.count(database_now())["workflows_execution"] == 0
    # What comes later is added to what is kept, and goes like it.
    a_world(seed + 1000)
    again = metrics()
    assert again != before
    pruning.run(retention.RULES, database_now(), pause=lambda _: None)
    assert metrics() == again


@pytest.mark.django_db(transaction=True)
def test_two_who_prune_and_one_who_reads_do_not_disturb_each_other(monkeypatch):
    """At no moment is anything counted twice or not at all."""
    monkeypatch.setattr(retention, "AT_ONCE", 3)
    workflow = registered("report", "a")
    for number in range(90):
        status = ("completed", "failed")[number % 2]
        make_execution(workflow, status, tasks=[{"step_id": "a", "status": status}])
    over, wrong, counts = threading.Event(), [], []

    def read():
        while not over.is_set():
            found = facts.gather()
            seen = found.executions["report", "failed"], found.steps["report", "a", "completed"]
            if seen != (45, 45):
                wrong.append(seen)

    def prune():
        counts.append(pruning.run(retention.RULES, database_now(), pause=lambda _: None).counts)

    def alone(act):
        try:
            act()
        except Exception as error:
            wrong.append(error)
        finally:
            connection.close()

    reader = threading.Thread(target=alone, args=(read,))
    pruners = [threading.Thread(target=alone, args=(prune,)) for _ in range(2)]
    for thread in (reader, *pruners):
        thread.start()
    for thread in pruners:
        thread.join(60)
    over.set()
    reader.join(60)
    assert not wrong
    assert sum(one.get("workflows_execution", 0) for one in counts) == 70
    assert Execution.objects.count() == 20


def test_killed_within_a_batch_it_has_done_nothing(monkeypatch):
    a_world(3)
    make_execution(Workflow.objects.first(), "failed")
    before, rows = metrics(), Execution.objects.count()

    def dies(_rows):
        raise KeyboardInterrupt

    monkeypatch.setattr(retention, "erase", dies)
    with pytest.raises(KeyboardInterrupt):
        retention.run(database_now())
    assert not OutcomeTotal.objects.exists()
    assert (metrics(), Execution.objects.count()) == (before, rows)


def test_labels_of_what_is_kept_are_bounded():
    for slug, kind in (("tr", "tracker"), ("tasks-bob", "tasks")):
        workflow = registered(slug, kind=kind)
        tasks = [
            {"step_id": f"s{n}", "status": "failed", "error": {"type": f"odd {n}", "message": "x" * 900}}
            for n in range(50)
        ]
        make_execution(workflow, "failed", tasks=tasks)
    before = metrics()
    retention.run(database_now())
    assert metrics() == before
    assert not Execution.objects.exists()
    assert OutcomeTotal.objects.count() < 20


def test_the_items_of_a_step_count_as_the_step():
    tasks = [{"step_id": step, "status": "completed"} for step in ("load", "load[0]", "load[1]")]
    make_execution(registered("report", "load"), tasks=tasks)
    assert facts.gather().steps["report", "load", "completed"] == 3


def test_totals_outlive_a_change_of_the_bounds():
    """Counts stay, sums stay, and no bucket holds more than all or less than the one below it."""
    workflow = new_execution_id()
    one = Outcome(
        workflow_id=workflow, step_id="a", status="completed", error_type="", count=6, timed=5, microseconds=10**16,
        within=[1, 3],
    )  # fmt: skip
    (kept,) = to_keep([one], (1.0, 10.0))
    row = (
        workflow.hex,
        "a",
        "completed",
        "",
        kept.count,
        -1,
        kept.microseconds,
        kept.retries,
        json.dumps(kept.buckets),
    )
    assert of_total(row, (1.0, 10.0)) == one
    other = of_total(row, (0.5, 5.0, 10.0, 20.0))
    assert (other.count, other.timed, other.microseconds, other.within) == (6, 5, 10**16, [0, 1, 3, 3])
