"""Sub-workflows on a real database: started with their step, told of, stopped with it, never in a circle."""

import pytest

from apps.core.errors import Invalid
from apps.workflows.models import Execution, Task
from apps.workflows.selectors.graphs import graph_of
from apps.workflows.selectors.invariants import verdict
from apps.workflows.services import executions, follow, leases, workflows
from apps.workflows.services.ledger import turn
from tests.integration.conftest import noop
from tests.integration.workflows.driver import check_rows, claim, done, drive, failed, statuses

pytestmark = pytest.mark.django_db


@pytest.fixture
def child(make_workflow):
    outputs = [{"name": "sum", "value": "${steps.work.outputs.sum}"}]
    return make_workflow([noop("work")], name="Child", inputs={"n": {"type": "integer"}}, outputs=outputs)


@pytest.fixture
def start(make_workflow, owner, child):
    def start(step=None, *more, **values):
        step = {"id": "sub", "workflow": {"id": "child", "inputs": {"n": 1}}, **(step or {})}
        return executions.start(make_workflow([step, *more], **values), by=owner)

    return start


def one(execution):
    return Execution.objects.get(parent_task__execution=execution, finished_at=None)


def settle(*executions_):
    follow.sweep()
    for execution in executions_:
        check_rows(execution)
    assert not verdict().violations


def test_a_sub_workflow_gives_its_outputs(start):
    parent = start(None, noop("after", "sub"), outputs=[{"name": "sum", "value": "${steps.sub.outputs.sum}"}])
    inner = one(parent)
    assert (inner.trigger, inner.requested_by_id, inner.trace_id) == (
        "workflow",
        parent.requested_by_id,
        parent.trace_id,
    )
    task = Task.objects.get(execution=parent, step_id="sub")
    assert (task.status, task.waiting_for, inner.parent_task_id) == ("waiting", "execution", task.pk)
    drive(lambda task: done(task, sum=7))
    settle(parent, inner)
    drive()
    settle(parent, inner)
    assert (parent.status, parent.outputs) == ("completed", {"sum": 7})
    assert not inner.owes_parent


def test_its_failure_is_the_steps(start):
    parent = start(None, noop("after", "sub"))
    drive(lambda task: failed(task, message="no disk"))
    settle(parent)
    assert parent.status == "failed"
    assert parent.error["type"] == "workflow"
    assert parent.error["message"] == "no disk"
    assert statuses(parent)["after"] == "skipped"


def test_a_failed_one_is_started_again_where_the_step_says_so(start):
    parent = start({"retries": 1})
    drive(failed)
    follow.sweep()
    Task.objects.filter(execution=parent).update(due_at="2020-01-01T00:00:00Z")
    leases.reap()
    assert Execution.objects.filter(parent_task__execution=parent).count() == 2
    drive(lambda task: done(task, sum=1))
    settle(parent)
    assert parent.status == "completed"


def test_cancel_stops_it_and_waits_for_it(start):
    parent = start()
    running = claim()["work"]
    executions.cancel(parent, by=None)
    inner = one(parent)
    assert inner.cancel_requested_at
    parent.refresh_from_db()
    assert parent.finished_at is None
    turn([failed(running)])
    settle(parent, inner)
    assert (parent.status, inner.status) == ("cancelled", "cancelled")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"id": "nobody"}, "there is no workflow `nobody`, or who started this may not know of it"),
        ({"id": "child", "version": 7}, "has no version 7"),
        ({"id": "child", "inputs": {"n": "x"}}, "/n"),
    ],
)
def test_one_that_cannot_be_started_fails_the_step(start, config, message):
    parent = start({"workflow": config})
    settle(parent)
    assert parent.status == "failed"
    assert message in parent.error["message"]


def test_a09_one_that_may_not_be_read_is_told_like_one_that_never_was(make_user, child):
    stranger = make_user()
    data = {"name": "Mine", "steps": [{"id": "sub", "workflow": {"id": "child", "inputs": {"n": 1}}}]}
    parent = executions.start(workflows.create(data, by=stranger), by=stranger)
    settle(parent)
    assert parent.error["message"] == "there is no workflow `child`, or who started this may not know of it"
    assert not child.executions.exists()


def test_who_may_not_execute_it_may_not_by_way_of_another(make_user, child):
    stranger = make_user("guest")  # who reads every workflow
    data = {"name": "Mine", "steps": [{"id": "sub", "workflow": {"id": "child", "inputs": {"n": 1}}}]}
    parent = executions.start(workflows.create(data, by=stranger), by=stranger)
    settle(parent)
    assert parent.status == "failed"
    assert "may not execute the workflow `child`" in parent.error["message"]
    assert not child.executions.exists()


def test_a09_a_circle_names_no_workflow_that_one_may_not_read(make_workflow, make_user):
    stranger = make_user()
    loop = workflows.create({"name": "Loop", "steps": [noop("a")]}, by=stranger)
    make_workflow([{"id": "c", "workflow": {"id": "loop"}}], name="Hidden")
    make_workflow([{"id": "c", "workflow": {"id": "hidden"}}], name="Outer")
    with pytest.raises(Invalid) as refused:
        workflows.update(loop, {"name": "Loop", "steps": [{"id": "m", "workflow": {"id": "outer"}}]}, by=stranger)
    assert refused.value.problems[0].message.endswith(": loop → outer → … → loop")


def test_a_circle_is_refused_when_it_is_saved_and_when_it_is_run(start, make_workflow, owner, child):
    make_workflow([{"id": "c", "workflow": {"id": "child", "inputs": {"n": 1}}}], name="Middle")
    data = {"name": "Child", "steps": [{"id": "m", "workflow": {"id": "middle"}}]}
    with pytest.raises(Exception, match="step of itself") as refused:
        workflows.update(child, data, by=owner)
    (problem,) = refused.value.problems
    assert (problem.pointer, problem.code) == ("/steps/0/workflow/id", "circle")
    assert "child → middle → child" in problem.message
    version = child.versions.get(number=1)
    type(version).objects.filter(pk=version.pk).update(definition=data)
    graph_of.cache_clear()
    parent = executions.start(child, by=owner)
    follow.sweep()
    follow.sweep()
    parent.refresh_from_db()
    assert parent.status == "failed"
    assert "cannot be a step of itself" in parent.error["message"]


def test_many_of_them(start):
    parent = start({"for_each": [1, 2, 3], "workflow": {"id": "child", "inputs": {"n": "${item}"}}})
    assert Execution.objects.filter(parent_task__execution=parent).count() == 3
    drive(lambda task: done(task, sum=2))
    settle(parent)
    assert parent.status == "completed"
    assert Task.objects.get(execution=parent, step_id="sub").outputs == [{"sum": 2}] * 3
