"""A workflow as a step of another."""

from apps.workflows.testing import fails, returns, takes

PARENT = """
name: parent
inputs: {day: {type: string, default: monday}}
outputs: [{name: total, value: "${steps.sub.outputs.total}"}]
steps:
  - {id: sub, workflow: {id: child, inputs: {day: "${inputs.day}"}}, retries: 1, retry_delay: 10, timeout_seconds: 100}
"""
CHILD = """
name: child
inputs: {day: {type: string}}
outputs: [{name: total, value: "${steps.sum.outputs.total}"}]
steps:
  - {id: sum, python: {call: team.sum, with: {day: "${inputs.day}"}}}
"""


def test_its_outputs_are_the_steps_outputs(workflow):
    child = workflow(CHILD).mock("sum", takes(20, lambda call: {"total": len(call.arguments["day"])}))
    result = workflow(PARENT).child("child", child).execute({"day": "friday"})
    assert result.status == "completed"
    assert result.outputs == {"total": 6}
    assert result.seconds == 20
    (ran,) = result.children["sub"]
    assert ran.inputs == {"day": "friday"}
    assert ran.journal.of("sum") == ["task.started", "task.completed"]


def test_its_failure_is_the_steps_failure_and_is_tried_again_in_a_new_execution(workflow):
    child = workflow(CHILD).mock("sum", fails(message="no figures"), returns(total=7))
    result = workflow(PARENT).child("child", child).execute()
    assert result.status == "completed"
    assert [str(ran.status) for ran in result.children["sub"]] == ["failed", "completed"]
    assert result.journal.of("sub") == ["task.waiting", "task.retrying", "task.waiting", "task.completed"]
    assert result.seconds == 10


def test_what_failed_in_it_is_told_above(workflow):
    child = workflow(CHILD).mock("sum", fails(message="no figures"))
    result = workflow(PARENT).child("child", child).execute()
    assert result.status == "failed"
    assert (result.error["type"], result.error["message"]) == ("workflow", "no figures")


def test_inputs_that_do_not_fit_it_fail_the_step_at_once(workflow):
    child = workflow(CHILD.replace("day: {type: string}", "day: {type: integer}").replace("name: child", "name: other"))
    result = workflow(PARENT).child("child", child).execute()
    assert result.status == "failed"
    assert "/inputs/day" in result.error["message"]
    assert result.task("sub").failures == 1


def test_a_step_that_waits_too_long_for_it_has_it_cancelled(workflow):
    child = workflow(CHILD).mock("sum", takes(1000))
    result = workflow(PARENT).child("child", child).execute()
    assert result.task("sub").status == "timed_out"
    assert result.children["sub"][0].status == "cancelled"
    assert result.seconds == 100


def test_a_cancel_reaches_it_and_the_parent_ends_after_it(workflow):
    child = workflow(CHILD).mock("sum", takes(50))
    result = workflow(PARENT).child("child", child).cancel(at=30).execute()
    assert (result.status, result.children["sub"][0].status) == ("cancelled", "cancelled")
    assert result.seconds == 30


def test_it_can_be_mocked_by_what_it_leaves(workflow):
    run = workflow(PARENT).mock("sub", fails(type="workflow", message="no"), takes(20, returns(total=3)))
    result = run.execute()
    assert (result.outputs, result.seconds) == ({"total": 3}, 30)
    assert result.children == {}


def test_one_for_each_item(workflow):
    run = workflow("""
    name: w
    steps:
      - {id: sub, for_each: [a, bb, ccc], max_parallel: 1, workflow: {id: child, inputs: {day: "${item}"}}}
    """)
    child = workflow(CHILD).mock("sum", takes(10, lambda call: {"total": len(call.arguments["day"])}))
    result = run.child("child", child).execute()
    assert result.task("sub").outputs == [{"total": 1}, {"total": 2}, {"total": 3}]
    assert result.seconds == 30


def test_no_more_of_it_at_once_than_its_own_limit(workflow):
    limited = CHILD.replace("name: child", "name: child\nconcurrency: {key: all, limit: 2}")
    run = workflow("""
    name: w
    steps:
      - {id: sub, for_each: [a, b, c, d], workflow: {id: child, inputs: {day: "${item}"}}}
    """)
    result = run.child("child", workflow(limited).mock("sum", takes(10, returns(total=1)))).execute()
    assert result.status == "completed"
    assert result.seconds == 20
