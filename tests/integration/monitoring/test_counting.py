"""Counters equal the rows, whenever what ended is marked as counted, by whomever, and wherever they are killed."""

import contextlib
import io
import random
import re
import threading
from collections import Counter
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from apps.core.clock import database_now
from apps.monitoring import facts
from apps.monitoring.sums import Labels
from apps.workflows.models import Execution, Figure, MetricLabel, OutcomeTotal, Performer, Task, Workflow
from apps.workflows.selectors import statistics
from apps.workflows.selectors.outcomes import Outcome, to_keep
from apps.workflows.services import counting, executions, labels, leases, retention, workflows
from tests.integration.conftest import noop
from tests.integration.monitoring.rows import START, make_execution, make_workflow
from tests.integration.workflows.driver import claim, drive
from tests.integration.workflows.test_retention import a_world, metrics

pytestmark = pytest.mark.django_db

TERMINAL = ("completed", "failed", "timed_out", "cancelled", "skipped")


def truth():
    """What the metrics must say, counted row by row in plain Python."""
    own = {(row.workflow_id, row.step_id) for row in MetricLabel.objects.all()}
    executions, steps, retries, lasted = Counter(), Counter(), Counter(), Counter()
    names = {"workflow": None, "tracker": "tracker", "tasks": "tasks"}
    for row in Execution.objects.select_related("workflow"):
        label = names[row.workflow.kind] or (row.workflow.slug if (row.workflow_id, "") in own else "other")
        if row.finished_at:
            executions[label, row.status] += 1
            if row.started_at:
                lasted[label] += max(0, round((row.finished_at - row.started_at).total_seconds() * 1e6))
        for task in Task.objects.filter(execution=row):
            step = task.step_id.partition("[")[0]
            shared = row.workflow.kind != "workflow"
            key = (label,) * 2 if shared else (label, step) if (row.workflow_id, step) in own else ("other",) * 2
            bad = task.status in ("failed", "timed_out") and task.failures + task.losses > 0
            if task.finished_at or task.failures or task.losses:
                retries[key] += task.failures + task.losses - bad
            if task.finished_at:
                steps[(*key, task.status)] += 1
    return executions, steps, retries, lasted


def said():
    found = facts.gather()
    return (
        Counter({k: n for k, n in found.executions.items() if n}),
        Counter({k: n for k, n in found.steps.items() if n}),
        Counter({k: n for k, n in found.retries.items() if n}),
        Counter({k: d.microseconds for k, d in found.execution_seconds.items() if d.microseconds}),
    )


@pytest.mark.parametrize("seed", range(12))
def test_counters_equal_the_rows_through_counting_kills_and_pruning(seed, monkeypatch):
    chance = random.Random(seed)
    a_world(seed)
    expected = tuple(+counter for counter in truth())
    before = metrics()
    monkeypatch.setattr(counting, "AT_ONCE", chance.randint(1, 5))
    monkeypatch.setattr(counting, "TASKS_AT_ONCE", chance.randint(1, 9))
    add = counting._add

    class Killed(BaseException):
        pass

    def sometimes_dies(more):
        if chance.random() < 0.3:
            raise Killed
        add(more)
        if chance.random() < 0.3:
            raise Killed

    monkeypatch.setattr(counting, "_add", sometimes_dies)
    while Execution.objects.filter(counted=False, finished_at__isnull=False).exists():
        with contextlib.suppress(Killed):
            counting.count_ended()
        assert said() == expected
        assert metrics() == before
        if chance.random() < 0.2:
            with contextlib.suppress(Killed):
                retention.run(database_now(), 5)
            assert metrics() == before
    monkeypatch.setattr(counting, "_add", add)
    retention.run(database_now())
    assert metrics() == before
    assert said() == expected


def said_lines():
    """Every sample that is not 0."""
    return {line for line in metrics().splitlines() if not line.endswith(" 0.0")}


@pytest.mark.parametrize("seed", range(6))
def test_no_counter_that_others_share_falls_when_a_workflow_is_deleted(seed, monkeypatch):
    """It would seem reset, and `increase()` take all that is left for new: a spike of errors that never were."""
    chance = random.Random(seed)
    monkeypatch.setattr(labels, "MAX_WORKFLOWS", 2)
    monkeypatch.setattr(labels, "MAX_STEPS", 3)
    a_world(seed)
    Execution.objects.exclude(status__in=TERMINAL).delete()
    for kind in ("workflow", "workflow", "tracker", "tasks"):
        failed = {"step_id": "a", "status": "failed", "failures": 2, "queued_at": START, "error": {"type": "exit_code"}}
        late = {**failed, "step_id": "z", "status": "timed_out", "error": {"type": "odd"}}
        made = make_workflow(f"{kind}-{Workflow.objects.count()}", "a", "b", "c", "z", kind=kind)
        make_execution(made, "failed", tasks=[failed, late], error={"type": "timeout"})
    counting.count_ended()
    gone = list(Workflow.objects.order_by("pk"))
    chance.shuffle(gone)
    assert {'workflow_id="other"', 'workflow_id="tracker"'} <= set(re.findall(r'workflow_id="[^"]+"', metrics()))
    for workflow in gone:
        if chance.random() < 0.5 and (more := workflow.executions.first()):
            make_execution(more.workflow, "completed", tasks=[{"step_id": "a", "status": "completed"}])  # not counted
        own, before = f'workflow_id="{workflow.slug}"', said_lines()
        workflows.delete(workflow)
        assert said_lines() == {line for line in before if own not in line}
    assert not Workflow.objects.exists()


def test_what_is_counted_is_never_looked_at_again(django_assert_num_queries):
    for _ in range(3):
        make_execution(make_workflow(f"w{_}", "a"), tasks=[{"step_id": "a", "status": "completed"}])
    assert counting.count_ended() == 3
    assert counting.count_ended() == 0
    Task.objects.all().delete()  # nobody looks at them
    assert facts.gather().steps["w0", "a", "completed"] == 1


def test_an_open_execution_is_not_counted(make_workflow, owner):
    executions.start(make_workflow([noop("a"), noop("b", "a")]), by=owner)
    assert counting.count_ended() == 0
    drive()
    assert counting.count_ended() == 1


@pytest.mark.django_db(transaction=True)
def test_two_who_count_and_two_replicas_that_read_agree(monkeypatch):
    monkeypatch.setattr(counting, "AT_ONCE", 3)
    workflow = make_workflow("report", "a")
    for number in range(60):
        status = ("completed", "failed")[number % 2]
        make_execution(workflow, status, tasks=[{"step_id": "a", "status": status}])
    over, wrong, counted = threading.Event(), [], []

    def read():
        while not over.is_set():
            found = facts.gather()
            seen = found.executions["report", "failed"], found.steps["report", "a", "completed"]
            if seen != (30, 30):
                wrong.append(seen)

    def count():
        while number := counting.count_ended():
            counted.append(number)

    def alone(act):
        try:
            act()
        except Exception as error:
            wrong.append(error)
        finally:
            connection.close()

    readers = [threading.Thread(target=alone, args=(read,)) for _ in range(2)]
    counters = [threading.Thread(target=alone, args=(count,)) for _ in range(2)]
    for thread in (*readers, *counters):
        thread.start()
    for thread in counters:
        thread.join(60)
    while counting.count_ended():  # what one had locked the other left out
        pass
    over.set()
    for thread in readers:
        thread.join(60)
    assert not wrong
    assert not Execution.objects.filter(counted=False).exists()
    assert sum(OutcomeTotal.objects.filter(what="execution").values_list("count", flat=True)) == 60


def test_the_cost_does_not_rest_on_what_ever_ran():
    """The plan reads totals and what is not marked, by index, whatever else there is."""
    workflow = make_workflow("report", "load")
    for _ in range(40):
        make_execution(workflow, tasks=[{"step_id": "load", "status": "completed"}], counted=True)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE workflows_execution")  # of an empty table PostgreSQL knows no index that is better
        cursor.execute("ANALYZE workflows_task")
    asked = []

    def note(execute, sql, params, many, context):
        asked.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        for what in statistics.BOUNDS:
            statistics.tallies(what)
    explain = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    for sql, params in asked:
        with connection.cursor() as cursor:
            cursor.execute(explain + sql, params)
            plan = "\n".join(" ".join(map(str, row)) for row in cursor.fetchall())
        assert "execution_uncounted" in plan, plan
        assert "SCAN t" not in plan, plan
        assert "Seq Scan on workflows_task" not in plan, plan


# --- labels ---------------------------------------------------------------------------------------------------------


def test_a_label_stays_while_its_workflow_does(monkeypatch, make_workflow, owner):
    monkeypatch.setattr(labels, "MAX_WORKFLOWS", 2)
    monkeypatch.setattr(labels, "MAX_STEPS", 3)
    first, second, third = (make_workflow([noop("a")], name=name) for name in ("One", "Two", "Three"))
    for workflow in (first, second, third):
        executions.start(workflow, by=owner)
    drive()
    before = facts.gather().steps
    assert before["one", "a", "completed"] == before["other", "other", "completed"] == 1
    # A step that comes later finds the last room, one after that none; nobody's counter moves.
    workflows.update(first, {"name": "One", "steps": [noop("a"), noop("b"), noop("c")]}, by=owner)
    after = facts.gather().steps
    assert {key: after[key] for key in before} == before
    assert ("one", "b", "completed") in after
    assert ("one", "c", "completed") not in after
    # What a deleted workflow had is free for the next that is saved, and the one without stays without.
    workflows.delete(second)
    make_workflow([noop("a")], name="Four")
    assert {"one", "four", "other"} == {label for label, _ in facts.gather().executions}


def test_an_operator_pins_a_name(monkeypatch, make_workflow):
    monkeypatch.setattr(labels, "MAX_WORKFLOWS", 1)
    make_workflow([noop("a")], name="One")
    make_workflow([noop("a")], name="Two")

    def said(*options):
        out = io.StringIO()
        call_command("metric_labels", *options, stdout=out)
        return out.getvalue().splitlines()

    assert said()[:1] == ["one: 1 steps"]
    with pytest.raises(CommandError, match="name one to give its own up"):
        said("--pin", "two")
    with pytest.raises(CommandError, match="there is no workflow `three`"):
        said("--pin", "three")
    assert said("--pin", "two", "--instead-of", "one") == [
        "two: 1 steps", "1 of 1 workflows, 1 of 1,000 steps; 1 workflows share `other`"
    ]  # fmt: skip
    assert {label for label, _ in facts.gather().executions} == {"two", "other"}


def test_a32_series_stay_under_the_cap_with_100_000_ids():
    """Ids that callers make up share labels: trackers, ad-hoc tasks, executions; workflows and steps are capped."""
    shared = {make_workflow(f"some-{kind}", kind=kind).pk: kind for kind in ("tracker", "tasks")}
    own = make_workflow("own", "a").pk
    label = Labels(statistics.registered(), statistics.labelled())
    made_up = [f"made-up-{number}" for number in range(50_000)]
    seen = {label.of_step(workflow, step) for workflow in (*shared, own) for step in made_up}
    assert seen == {("tracker", "tracker"), ("tasks", "tasks"), ("other", "other")}
    outcomes = [
        Outcome(workflow_id=workflow, step_id=step, status="completed", error_type=f"odd {step}", count=1, within=[])
        for workflow in shared
        for step in made_up
    ]
    kept = to_keep(outcomes, (), without_steps=shared)
    assert [(one.step_id, one.error_type, one.count) for one in kept] == [("", "?", 50_000)] * 2
    labels.admit(make_workflow("many").pk, [f"step-{number}" for number in range(3_000)], now=database_now())
    assert MetricLabel.objects.exclude(step_id="").count() == labels.MAX_STEPS


# --- the rest -------------------------------------------------------------------------------------------------------


def test_how_long_a_step_stood_in_line(make_workflow, owner):
    execution = executions.start(make_workflow([noop("a"), noop("b", queue="gpu")]), by=owner)
    Task.objects.update(ready_at=database_now() - timedelta(seconds=20))
    Execution.objects.update(ready_at=database_now() - timedelta(seconds=20))
    claim()
    during = facts.gather().wait_seconds
    assert (during["default"].count, during["gpu"].count) == (1, 1)
    assert 20 <= during["default"].microseconds / 1e6 < 60
    drive(owner="w2")
    assert execution.pk
    counting.count_ended()
    assert facts.gather().wait_seconds["default"].count == 1


def test_a_lost_worker_is_counted_once(set_env):
    set_env(LEASE_SECONDS=1000)
    now = database_now()
    for name, kind, seconds in (("w1", "worker", 1001), ("w2", "worker", 1), ("a1", "agent", 1001)):
        seen = now - timedelta(seconds=seconds)
        Performer.objects.create(name=name, kind=kind, slots=1, started_at=seen, seen_at=seen)
    leases.reap(), leases.reap()
    assert facts.gather().figures["workers_lost"] == 1
    leases.beat(owner="w1", kind="worker", slots=1, held=[], lease_seconds=1000)  # it comes back, and goes again
    Performer.objects.filter(pk="w1").update(seen_at=now - timedelta(seconds=1001))
    leases.reap()
    leases.leave("w1")
    assert facts.gather().figures["workers_lost"] == 2
    leases.leave("w2")  # its parent saw it die
    assert facts.gather().figures["workers_lost"] == 3
    leases.beat(owner="w3", kind="worker", slots=1, held=[], lease_seconds=1000, draining=True)
    leases.leave("w3")
    assert facts.gather().figures["workers_lost"] == 3


def test_the_schedulers_tick_is_noted_every_ten_seconds(monkeypatch):
    from apps.workflows.services import schedules

    assert "scheduler_tick" not in facts.gather().figures
    schedules.fire_due()
    first = Figure.objects.get(pk="scheduler_tick").value
    schedules.fire_due()
    assert Figure.objects.get(pk="scheduler_tick").value == first
    Figure.objects.update(value=first - 11)
    schedules.fire_due()
    assert Figure.objects.get(pk="scheduler_tick").value >= first


def test_agents_are_counted_with_their_slots(set_env):
    set_env(LEASE_SECONDS=1000)
    now = database_now()
    for name, seconds, slots, load in (("a", 1, 4, 3), ("b", 1, 2, 0), ("c", 1001, 8, 8)):
        seen = now - timedelta(seconds=seconds)
        Performer.objects.create(name=name, kind="agent", slots=slots, load=load, started_at=seen, seen_at=seen)
    found = facts.gather().agents
    assert (found.states, found.slots, found.used) == ({"live": 2, "draining": 0, "lost": 1}, 6, 3)


def test_an_execution_is_stalled_when_nobody_works_on_it(make_workflow, owner):
    waiting, working = (executions.start(make_workflow([noop("a")]), by=owner) for _ in range(2))
    claim(owner="w1")
    claim(owner="w2")
    assert facts.gather().stalled_workflows == 0
    Execution.objects.update(updated_at=database_now() - timedelta(seconds=700))
    assert facts.gather().stalled_workflows == 0
    Task.objects.filter(execution=waiting).update(lease_expires_at=database_now() - timedelta(seconds=700))
    assert facts.gather().stalled_workflows == 1
    assert working.pk
