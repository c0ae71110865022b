"""Metrics and spans of executions that the engine itself carried out."""

import pytest

from apps.monitoring import facts, receivers
from apps.workflows.engine.types import Completed, Failed
from apps.workflows.services import executions
from apps.workflows.services.ledger import Report, Wanted, turn

WANTED = Wanted(owner="w1", slots=10, lease_seconds=30)


def claimed(reports=()):
    return turn(list(reports), WANTED).claimed


def completed(task):
    return Report(task_id=task.task_id, happening=Completed(step_id=task.step_id, fence=task.fence, outputs={}))


def failed(task, kind="error"):
    error = {"type": kind, "message": "m", "retryable": True}
    return Report(task_id=task.task_id, happening=Failed(step_id=task.step_id, fence=task.fence, error=error))


@pytest.mark.django_db(transaction=True)
def test_what_the_engine_did_is_what_the_metrics_say(make_workflow, owner, monkeypatch):
    spans = []
    monkeypatch.setattr(receivers, "emit_execution_span", lambda **values: spans.append(values))
    workflow = make_workflow(
        [
            {"id": "a", "python": "builtin.noop", "retries": 1, "retry_delay": 0},
            {"id": "b", "python": "builtin.noop", "depends_on": ["a"]},
        ]
    )
    slug = workflow.slug
    good = executions.start(workflow, by=owner)
    assert facts.gather().queues["default"].depth == 1
    (first,) = claimed()
    during = facts.gather()
    assert (during.concurrent_workflows, during.concurrent_steps) == (1, 1)
    assert during.queues["default"].depth == 0
    (again,) = claimed([failed(first)])
    assert facts.gather().retries[slug, "a"] == 1
    (last,) = claimed([completed(again)])
    assert claimed([completed(last)]) == ()
    after = facts.gather()
    assert after.executions[slug, "completed"] == 1
    assert (after.steps[slug, "a", "completed"], after.steps[slug, "b", "completed"]) == (1, 1)
    assert after.retries[slug, "a"] == 1
    assert set(after.errors.values()) == {0}
    assert after.execution_seconds[slug].count == after.step_seconds[slug, "a"].count == 1

    bad = executions.start(workflow, by=owner)
    (first,) = claimed()
    (again,) = claimed([failed(first)])
    claimed([failed(again, "exit_code")])
    after = facts.gather()
    assert after.executions[slug, "failed"] == 1
    assert after.steps[slug, "a", "failed"] == 1
    assert after.steps[slug, "b", "skipped"] == 1
    assert after.retries[slug, "a"] == 2
    assert {kind: number for kind, number in after.errors.items() if number} == {"exit_code": 1}
    assert [(span["execution_id"], span["status"], span["trace_id"]) for span in spans] == [
        (str(good.pk), "completed", good.trace_id),
        (str(bad.pk), "failed", bad.trace_id),
    ]
