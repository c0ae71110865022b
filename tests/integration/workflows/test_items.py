"""Steps with `for_each` on a real database: made as they are needed, gathered in order, done again one by one."""

import pytest

from apps.core.clock import database_now
from apps.core.errors import Invalid
from apps.workflows.models import Event, Task
from apps.workflows.selectors.invariants import verdict
from apps.workflows.services import executions, leases
from apps.workflows.services.ledger import kept, turn
from tests.integration.conftest import noop
from tests.integration.workflows.driver import accepted, check_rows, claim, done, drive, failed, statuses, wanted

pytestmark = pytest.mark.django_db


def fan(**values):
    step = {"id": "fan", "python": {"call": "builtin.echo", "with": {"n": "${item}"}}, "for_each": "${inputs.items}"}
    return {**step, **values}


INPUTS = {"items": {"type": "array"}}
AFTER = noop("after", "fan")


def echo(task):
    return done(task, **task.config["with"])


def start(make_workflow, owner, items, *steps, **values):
    workflow = make_workflow([*steps] or [fan(), AFTER], inputs=INPUTS, **values)
    return executions.start(workflow, by=owner, inputs={"items": items})


def good(execution, status="completed"):
    check_rows(execution)
    assert execution.status == status, execution.error
    assert not verdict().violations


def test_items_are_done_each_with_its_own_value_and_gathered_in_order(make_workflow, owner):
    outputs = [{"name": "all", "value": "${steps.fan.outputs}"}]
    execution = start(make_workflow, owner, ["x", {"y": 1}, None, [2]], outputs=outputs)
    assert statuses(execution) == {
        "fan": "waiting", "after": "pending", "fan[0]": "pending", "fan[1]": "pending", "fan[2]": "pending",
        "fan[3]": "pending",
    }  # fmt: skip
    drive(echo)
    good(execution)
    assert execution.outputs == {"all": [{"n": "x"}, {"n": {"y": 1}}, {"n": None}, {"n": [2]}]}
    assert execution.tasks_total == 6


def test_an_empty_list_is_done_at_once(make_workflow, owner):
    execution = start(make_workflow, owner, [])
    assert statuses(execution) == {"fan": "completed", "after": "pending"}
    drive()
    good(execution)
    assert Task.objects.get(execution=execution, step_id="fan").outputs == []


def test_no_more_than_max_parallel_are_open_and_rows_come_as_they_are_needed(make_workflow, owner):
    execution = start(make_workflow, owner, list(range(10)), fan(max_parallel=3), AFTER)
    seen = []
    reports = []
    while True:
        kept._lists.forget()
        result = turn(reports, wanted(16))
        seen += [task.step_id for task in result.claimed]
        opened = Task.objects.filter(execution=execution, step_id__startswith="fan[", finished_at=None).count()
        assert opened <= 3
        reports = [echo(task) for task in result.claimed[:1]]
        reports += [echo(task) for task in result.claimed[1:]]
        if not reports:
            break
    assert seen == [f"fan[{n}]" for n in range(10)] + ["after"]
    good(execution)
    assert Task.objects.get(execution=execution, step_id="fan").outputs == [{"n": n} for n in range(10)]


def test_the_others_go_on_when_one_fails_and_then_the_step_has_failed(make_workflow, owner):
    execution = start(make_workflow, owner, [1, 2, 3])
    drive(lambda task: failed(task, message="no 2") if task.step_id == "fan[1]" else echo(task))
    good(execution, "failed")
    assert statuses(execution)["after"] == "skipped"
    whole = Task.objects.get(execution=execution, step_id="fan")
    assert whole.outputs == [{"n": 1}, None, {"n": 3}]
    assert whole.error["type"] == "items"
    assert "1 of 3 items failed; the first was fan[1]: no 2" in execution.error["message"]


def test_a_retry_does_the_failed_items_again_and_no_other(make_workflow, owner):
    first = start(make_workflow, owner, [1, 2, 3])
    drive(lambda task: failed(task) if task.step_id == "fan[1]" else echo(task))
    again = executions.retry(first, by=owner)
    asked = []
    drive(lambda task: (asked.append(task.step_id), echo(task))[1])
    assert asked == ["fan[1]", "after"]
    good(again)
    assert again.origin_id == first.pk
    assert Task.objects.get(execution=again, step_id="fan").outputs == [{"n": 1}, {"n": 2}, {"n": 3}]
    reused = Event.objects.filter(execution=again, type="task.reused").values_list("step_id", flat=True)
    assert sorted(reused) == ["fan[0]", "fan[2]"]
    first.refresh_from_db()
    assert first.status == "failed"


def test_a_fork_from_the_middle_of_a_map(make_workflow, owner):
    before = noop("before")
    first = start(make_workflow, owner, [1, 2, 3, 4], before, fan(depends_on=["before"], max_parallel=2), AFTER)
    drive(echo)
    fork = executions.fork(first, "fan[2]", by=owner)
    asked = []
    drive(lambda task: (asked.append(task.step_id), done(task, n="new"))[1])
    assert asked == ["fan[2]", "after"]
    good(fork)
    assert Task.objects.get(execution=fork, step_id="fan").outputs == [{"n": 1}, {"n": 2}, {"n": "new"}, {"n": 4}]
    created = Event.objects.get(execution=fork, seq=1)
    assert created.data["fork_of"] == str(first.pk)
    assert (created.data["from_step_id"], created.data["kept"]) == ("fan[2]", 4)


def test_a_fork_of_a_fork_from_the_middle_of_a_map_that_was_kept_whole(make_workflow, owner):
    first = start(make_workflow, owner, [1, 2, 3])
    drive(echo)
    second = executions.fork(first, "after", by=owner)
    drive(echo)
    third = executions.fork(second, "fan[1]", by=owner)
    drive(lambda task: done(task, n="new"))
    good(third)
    assert Task.objects.get(execution=third, step_id="fan").outputs == [{"n": 1}, {"n": "new"}, {"n": 3}]
    for wrong in ("fan[3]", "fan[01]", "fan[x]", "after[0]", "nobody"):
        with pytest.raises(Invalid, match="no such step"):
            executions.fork(second, wrong, by=owner)


def test_a_fork_from_a_step_does_it_and_what_rests_on_it(make_workflow, owner):
    steps = [noop("a"), noop("b", "a"), noop("c", "b"), noop("d", "a")]
    first = executions.start(make_workflow(steps), by=owner)
    drive()
    fork = executions.fork(first, "b", by=owner)
    asked = []
    drive(lambda task: (asked.append(task.step_id), done(task))[1])
    assert asked == ["b", "c"]
    good(fork)
    assert fork.version_id == first.version_id


def test_a_list_made_by_a_step_before(make_workflow, owner):
    steps = [noop("first"), fan(for_each="${steps.first.outputs.rows}", depends_on=["first"]), AFTER]
    execution = start(make_workflow, owner, [], *steps)
    drive(lambda task: done(task, rows=["a", "b"]) if task.step_id == "first" else echo(task))
    good(execution)
    assert Task.objects.get(execution=execution, step_id="fan").outputs == [{"n": "a"}, {"n": "b"}]


@pytest.mark.parametrize("value", ["text", 5, {"a": 1}])
def test_what_is_no_list_fails_the_step(make_workflow, owner, value):
    workflow = make_workflow([fan()], inputs={"items": {}})
    execution = executions.start(workflow, by=owner, inputs={"items": value})
    good(execution, "failed")
    assert "it must be a list" in execution.error["message"]


def test_cancel_ends_what_waits_and_waits_for_what_runs(make_workflow, owner):
    execution = start(make_workflow, owner, list(range(5)), fan(max_parallel=2), AFTER)
    running = claim(slots=1)["fan[0]"]
    executions.cancel(execution, by=owner)
    assert statuses(execution) == {
        "fan": "waiting", "fan[0]": "in_progress", "fan[1]": "cancelled", "after": "cancelled",
    }  # fmt: skip
    assert execution.cancel_requested_at
    assert execution.finished_at is None
    accepted(echo(running))
    good(execution, "cancelled")
    assert statuses(execution)["fan"] == "cancelled"


def test_items_are_retried_lost_and_timed_out_like_any_task(make_workflow, owner):
    execution = start(make_workflow, owner, [1, 2], fan(retries=1, queue_timeout_seconds=60), AFTER)
    both = claim()
    accepted(failed(both["fan[0]"]))
    leases.leave("w1")
    again = claim()
    assert {task.fence for task in again.values()} == {2}
    accepted(*[echo(task) for task in again.values()])
    Task.objects.filter(execution=execution, step_id="after").update(due_at=database_now())
    drive()
    good(execution)


def test_a_thousand_items_cost_a_bounded_number_of_rows_at_a_time(make_workflow, owner):
    execution = start(make_workflow, owner, list(range(2500)))
    assert execution.tasks_total == 1002
    drive(echo, slots=200)
    good(execution)
    assert execution.tasks_total == 2502
    outputs = Task.objects.get(execution=execution, step_id="fan").outputs
    assert outputs == [{"n": n} for n in range(2500)]
