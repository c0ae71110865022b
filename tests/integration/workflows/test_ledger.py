"""The ledger on a real database: claims, reports, fencing, retries, the reaper, cancel."""

import threading
from datetime import timedelta

import pytest
from django.db import connection

from apps.core.clock import database_now
from apps.core.errors import Conflict, Invalid
from apps.workflows.engine.types import Accept, Completed, Ignore, Progressed, Reject
from apps.workflows.models import Execution, LogChunk, Performer, Task
from apps.workflows.services import executions, leases
from apps.workflows.services.ledger import LogLine, Report, turn
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

DIAMOND = [noop("a"), noop("b", "a"), noop("c", "a"), noop("d", "b", "c")]


def test_a_diamond_runs_in_order_and_its_fan_in_starts_once(make_workflow, owner):
    execution = executions.start(make_workflow(DIAMOND), by=owner)
    drive()
    check_rows(execution)
    assert execution.status == "completed"
    assert execution.percent == 100
    lines = journal(execution)
    assert lines[0] == "execution.created"
    assert lines[-1] == "execution.completed"
    assert lines.count(("task.started", "d")) == 1
    assert max(lines.index(("task.completed", s)) for s in "bc") < lines.index(("task.started", "d"))


def test_a_finished_step_hands_its_dependant_over_in_the_same_turn(make_workflow, owner):
    executions.start(make_workflow([noop("a"), noop("b", "a"), noop("c", "b")]), by=owner)
    task = claim()["a"]
    for step in ("b", "c"):
        (task,) = accepted(done(task), then=wanted(1, look=False)).claimed
        assert task.step_id == step


def test_a_stale_attempt_is_refused_and_changes_nothing(make_workflow, owner):
    execution = executions.start(make_workflow([noop("a")]), by=owner)
    zombie = claim(lease=-1)["a"]
    leases.reap()
    current = claim(owner="w2")["a"]
    assert current.fence == zombie.fence + 1
    before = Task.objects.values().get(pk=current.task_id)
    for report in (done(zombie, result="from the dead"), failed(zombie)):
        (answer,) = turn([report]).answers
        assert isinstance(answer, Reject)
        assert answer.code == "stale_attempt"
    assert Task.objects.values().get(pk=current.task_id) == before
    accepted(done(current, result=1))
    assert Task.objects.get(pk=current.task_id).outputs == {"result": 1}
    check_rows(execution)


def test_a_repeated_report_is_answered_kindly_and_recorded_once(make_workflow, owner):
    execution = executions.start(make_workflow([noop("a"), noop("b")]), by=owner)
    task = claim()["a"]
    report = Report(
        task_id=task.task_id,
        happening=Completed(step_id="a", fence=task.fence, outputs={}),
        logs=(LogLine(number=1, stream="stdout", text="once\n"),),
    )
    accepted(report)
    (again,) = turn([report]).answers
    assert isinstance(again, Ignore)
    assert LogChunk.objects.count() == 1
    check_rows(execution)


def test_a35_the_step_of_a_dead_worker_is_finished_by_another_and_recorded_once(make_workflow, owner):
    execution = executions.start(make_workflow([noop("a"), noop("b", "a")]), by=owner)
    claim(lease=-1, owner="dead")
    assert leases.reap() == 1
    drive(owner="living")
    check_rows(execution)
    assert execution.status == "completed"
    assert journal(execution)[2:6] == [
        ("task.started", "a"),
        ("task.lost", "a"),
        ("task.started", "a"),
        ("task.completed", "a"),
    ]


def test_the_reaper_leaves_a_living_lease_alone(make_workflow, owner):
    executions.start(make_workflow([noop("a")]), by=owner)
    task = claim(lease=30)["a"]
    assert leases.reap() == 0
    answer = leases.beat(owner="w1", kind="worker", slots=4, held=[(task.task_id, task.fence)], lease_seconds=60)
    assert not answer.lost
    assert Task.objects.get(pk=task.task_id).lease_expires_at > database_now() + timedelta(seconds=50)
    assert Performer.objects.get(pk="w1").load == 1


def test_a_heartbeat_for_a_lost_lease_is_told_so(make_workflow, owner):
    executions.start(make_workflow([noop("a")]), by=owner)
    zombie = claim(lease=-1)["a"]
    leases.reap()
    claim(owner="w2", lease=45)
    expires = Task.objects.get(pk=zombie.task_id).lease_expires_at
    answer = leases.beat(owner="w1", kind="worker", slots=4, held=[(zombie.task_id, zombie.fence)], lease_seconds=99)
    assert answer.lost == (zombie.task_id,)
    assert Task.objects.get(pk=zombie.task_id).lease_expires_at == expires


def test_a_performer_is_shown_as_lost_for_an_hour_and_then_forgotten():
    leases.beat(owner="gone", kind="worker", slots=4, held=[], lease_seconds=30)
    leases.reap()
    assert Performer.objects.filter(pk="gone").exists()
    Performer.objects.update(seen_at=database_now() - timedelta(minutes=61))
    leases.reap()
    assert not Performer.objects.exists()


def test_a_worker_seen_dead_by_its_parent_frees_its_steps_at_once(make_workflow, owner):
    execution = executions.start(make_workflow([noop("a")]), by=owner)
    claim(owner="killed", lease=3600)
    leases.leave("killed")
    assert claim(owner="other")["a"].fence == 2
    assert ("task.lost", "a") in journal(execution)


def test_what_was_claimed_in_a_commit_whose_answer_got_lost_is_given_back(make_workflow, owner):
    execution = executions.start(make_workflow([noop("a"), noop("b")]), by=owner)
    known, forgotten = claim(1), claim(1)
    (task,), (lost,) = known.values(), forgotten.values()
    assert leases.give_back_unknown("w1", {task.task_id: task.fence}) == 1
    assert claim()[lost.step_id].fence == 2
    assert ("task.released", lost.step_id) in journal(execution)
    assert Task.objects.get(pk=lost.task_id).losses == 0
    accepted(done(task))


def test_a38_a_step_that_kills_its_workers_is_given_up(make_workflow, owner):
    execution = executions.start(
        make_workflow([noop("poison", retry={"max_attempts": 1, "lost": 2}), noop("well")]), by=owner
    )
    accepted(done(claim()["well"]))
    for _ in range(3):
        leases.leave("w1")
        claim()
    execution.refresh_from_db()
    assert execution.status == "failed"
    assert execution.error["type"] == "lost"
    assert statuses(execution) == {"poison": "failed", "well": "completed"}
    check_rows(execution)


def test_retries_wait_their_delay_and_then_run(make_workflow, owner):
    execution = executions.start(make_workflow([noop("a", retries=2, retry_delay=60)]), by=owner)
    accepted(failed(claim()["a"]))
    task = Task.objects.get(execution=execution)
    assert task.status == "waiting"
    assert timedelta(seconds=55) < task.ready_at - database_now() <= timedelta(seconds=60)
    assert not claim(), "not before its time"
    assert leases.next_moments()[0] == task.ready_at
    past = database_now() - timedelta(seconds=1)
    Task.objects.filter(pk=task.pk).update(ready_at=past)
    Execution.objects.filter(pk=execution.pk).update(ready_at=past)
    accepted(done(claim()["a"]))
    check_rows(execution)
    assert execution.status == "completed"


def test_failure_skips_dependants_and_fails_the_execution(make_workflow, owner):
    steps = [noop("a"), noop("b", "a"), noop("c", "b"), noop("tidy", "a", on="failure"), noop("last", "c", on="always")]
    execution = executions.start(make_workflow(steps), by=owner)
    drive(lambda task: failed(task) if task.step_id == "a" else done(task))
    check_rows(execution)
    assert statuses(execution) == {
        "a": "failed", "b": "skipped", "c": "skipped", "tidy": "completed", "last": "completed",
    }  # fmt: skip
    assert execution.status == "failed"
    assert execution.error["step_id"] == "a"


def test_conditions_and_outputs_read_what_steps_left(make_workflow, owner):
    workflow = make_workflow(
        [
            noop("count"),
            noop("many", "count", when="${steps.count.outputs.n > 2}"),
            noop("few", "count", when="${steps.count.outputs.n <= 2}"),
            {
                "id": "echo",
                "depends_on": ["count"],
                "python": {"call": "builtin.echo", "with": {"n": "${steps.count.outputs.n}"}},
            },
        ],
        outputs=[{"name": "n", "value": "${steps.count.outputs.n}"}],
    )
    execution = executions.start(workflow, by=owner)
    seen = {}

    def act(task):
        seen[task.step_id] = task.config
        return done(task, n=3) if task.step_id == "count" else done(task)

    drive(act)
    check_rows(execution)
    assert statuses(execution) == {"count": "completed", "many": "completed", "few": "skipped", "echo": "completed"}
    assert seen["echo"]["with"] == {"n": 3}, "a whole ${…} keeps its type"
    assert execution.outputs == {"n": 3}


def test_an_expression_that_fails_at_run_time_fails_its_step_alone(make_workflow, owner):
    steps = [
        noop("a"),
        {
            "id": "b",
            "depends_on": ["a"],
            "python": {"call": "builtin.echo", "with": {"x": "${steps.a.outputs.absent}"}},
        },
        noop("c"),
    ]
    execution = executions.start(make_workflow(steps), by=owner)
    drive()
    check_rows(execution)
    assert statuses(execution) == {"a": "completed", "b": "failed", "c": "completed"}
    assert execution.error["type"] == "invalid"
    assert "absent" in execution.error["message"]


def test_a_poisonous_report_harms_only_its_own_step(make_workflow, owner):
    execution = executions.start(make_workflow([noop("good"), noop("bad"), noop("fine")]), by=owner)
    tasks = claim()
    answers = turn([done(tasks["good"]), done(tasks["bad"], x=float("nan")), done(tasks["fine"])]).answers
    assert all(isinstance(answer, Accept) for answer in answers)
    check_rows(execution)
    assert statuses(execution) == {"good": "completed", "bad": "failed", "fine": "completed"}
    assert execution.error["type"] == "output"


def test_cancel_stops_what_waits_at_once_and_what_runs_when_it_confirms(make_workflow, owner):
    execution = executions.start(make_workflow([noop("a"), noop("b", "a"), noop("c")]), by=owner)
    tasks = claim(1)
    (running,) = tasks.values()
    executions.cancel(execution, by=owner)
    execution.refresh_from_db()
    assert execution.status == "in_progress"
    assert execution.cancel_requested_at
    assert not claim(), "I12: nothing starts after a cancel"
    answer = leases.beat(owner="w1", kind="worker", slots=4, held=[(running.task_id, running.fence)], lease_seconds=30)
    assert answer.cancel == (running.task_id,)
    accepted(failed(running, type="cancelled"))
    check_rows(execution)
    assert execution.status == "cancelled"
    assert set(statuses(execution).values()) == {"cancelled"}
    with pytest.raises(Conflict) as refused:
        executions.cancel(execution, by=owner)
    assert refused.value.code == "invalid_transition"


def test_progress_never_falls_and_is_99_at_most_before_the_end(make_workflow, owner):
    execution = executions.start(make_workflow([noop("a")]), by=owner)
    task = claim()["a"]
    seen = []
    for percent in (50, 30, 120):
        turn(
            [
                Report(
                    task_id=task.task_id,
                    happening=Progressed(step_id="a", fence=task.fence, percent=percent, message=f"{percent}"),
                )
            ]
        )
        execution.refresh_from_db()
        seen.append(execution.percent)
    assert seen == [50, 50, 99]
    accepted(done(task))
    check_rows(execution)
    assert execution.percent == 100


def test_an_execution_past_its_deadline_is_stopped(make_workflow, owner):
    execution = executions.start(make_workflow([noop("a")], timeout_seconds=3600), by=owner)
    Execution.objects.filter(pk=execution.pk).update(deadline_at=database_now() - timedelta(seconds=1))
    leases.reap()
    check_rows(execution)
    assert execution.status == "timed_out"


def test_executions_take_turns(make_workflow, owner):
    """The line is fair: a wide execution does not keep a later, narrow one waiting for all of its steps."""
    wide = executions.start(make_workflow([noop(f"s{n}") for n in range(64)]), by=owner)
    narrow = executions.start(make_workflow([noop("only")]), by=owner)
    order = []
    for _ in range(6):
        order += [task.execution_id for task in turn([], wanted(8)).claimed]
    assert narrow.pk in order[:32]
    assert wide.pk in order[:8]


def test_inputs_are_checked_against_the_definition(make_workflow, owner):
    workflow = make_workflow([noop("a")], inputs={"n": {"type": "integer"}, "with_default": {"default": 7}})
    with pytest.raises(Invalid) as wrong:
        executions.start(workflow, by=owner, inputs={"n": "three", "m": 1})
    assert {problem.pointer for problem in wrong.value.problems} == {"/inputs/n", "/inputs/m"}
    execution = executions.start(workflow, by=owner, inputs={"n": 3})
    assert execution.inputs == {"n": 3, "with_default": 7}


@pytest.mark.django_db(transaction=True)
def test_two_workers_at_once_claim_nothing_twice(make_workflow, owner):
    execution = executions.start(make_workflow([noop(f"s{n}") for n in range(200)]), by=owner)
    wrong = []

    def work(name):
        try:
            drive(owner=name, slots=3)
        except Exception as error:
            wrong.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    drive()
    check_rows(execution)
    assert execution.status == "completed"
    assert all(fence == 1 for fence in Task.objects.values_list("fence", flat=True))
