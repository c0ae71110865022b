"""Who runs after whom, under which condition, and what a failure rules out."""

import pytest

from apps.workflows.testing import fails, returns

CHAIN = """
name: w
steps:
  - {id: a, python: team.a}
  - {id: good, depends_on: [a], python: builtin.noop}
  - {id: behind, depends_on: [good], python: builtin.noop}
  - {id: bad, depends_on: [a], on: failure, python: builtin.noop}
  - {id: ever, depends_on: [good], on: always, python: builtin.noop}
"""


def statuses(result):
    return {name: str(task.status) for name, task in result.tasks.items()}


def test_on_says_which_end_of_its_dependencies_lets_a_step_run(workflow):
    result = workflow(CHAIN).mock("a", returns()).execute()
    assert statuses(result) == {
        "a": "completed", "good": "completed", "behind": "completed", "bad": "skipped", "ever": "completed",
    }  # fmt: skip
    assert result.percent == 100


def test_what_failure_rules_out_is_skipped_and_so_is_what_stands_behind_it(workflow):
    result = workflow(CHAIN).mock("a", fails()).execute()
    assert result.status == "failed"
    assert statuses(result) == {
        "a": "failed", "good": "skipped", "behind": "skipped", "bad": "completed", "ever": "completed",
    }  # fmt: skip


def test_on_failure_hears_of_one_among_several(workflow):
    run = workflow("""
    name: w
    steps:
      - {id: a, python: team.a}
      - {id: b, python: team.b}
      - {id: tell, depends_on: [a, b], on: failure, python: builtin.noop}
    """)
    result = run.mock("a", fails()).mock("b", returns()).execute()
    assert statuses(result)["tell"] == "completed"


def test_a_failure_that_is_allowed_leaves_the_execution_good(workflow):
    run = workflow("""
    name: w
    steps:
      - {id: a, python: team.a, allow_failure: true}
      - {id: b, depends_on: [a], python: builtin.noop}
      - {id: c, depends_on: [a], on: always, python: builtin.noop}
    """)
    result = run.mock("a", fails()).execute()
    assert result.status == "completed"
    assert statuses(result) == {"a": "failed", "b": "skipped", "c": "completed"}


@pytest.mark.parametrize(
    ("when", "status"),
    [
        ("${inputs.n > 1}", "completed"),
        ("${inputs.n > 5}", "skipped"),
        ("${steps.a.outputs.rows}", "skipped"),
        ("${'rows' in steps.a.outputs}", "completed"),
        ("${steps.a.outputs.row}", "failed"),
    ],
)
def test_when_is_asked_once_all_dependencies_have_ended(workflow, when, status):
    run = workflow(f"""
    name: w
    inputs: {{n: {{type: integer, default: 2}}}}
    steps:
      - {{id: a, python: team.a}}
      - {{id: b, depends_on: [a], when: "{when}", python: builtin.noop}}
    """)
    assert statuses(run.mock("a", returns(rows=[])).execute())["b"] == status


def test_a_skipped_step_left_an_empty_object(workflow):
    run = workflow("""
    name: w
    outputs: [{name: has, value: "${'n' in steps.a.outputs}"}]
    steps: [{id: a, when: "false", python: builtin.noop}]
    """)
    result = run.execute()
    assert (result.status, result.outputs) == ("completed", {"has": False})


def test_an_output_that_cannot_be_made_fails_the_execution(workflow):
    run = workflow("""
    name: w
    outputs: [{name: n, value: "${steps.a.outputs.n}"}]
    steps: [{id: a, python: builtin.noop}]
    """)
    result = run.execute()
    assert result.status == "failed"
    assert "outputs.n" in result.error["message"]


def test_a_fan_in_starts_once_and_last(workflow):
    run = workflow("""
    name: w
    steps:
      - {id: a, python: {call: builtin.sleep, with: {seconds: 1}}}
      - {id: b, python: {call: builtin.sleep, with: {seconds: 3}}}
      - {id: c, python: {call: builtin.sleep, with: {seconds: 2}}}
      - {id: d, depends_on: [a, b, c], python: builtin.noop}
    """)
    result = run.execute()
    assert result.journal.of("d") == ["task.started", "task.completed"]
    assert result.task("d").started == result.seconds == 3


def test_values_pass_from_step_to_step_with_their_types(workflow):
    run = workflow("""
    name: w
    inputs: {day: {type: string}}
    outputs: [{name: said, value: "${steps.b.outputs}"}]
    steps:
      - {id: a, python: team.a}
      - id: b
        depends_on: [a]
        python: {call: builtin.echo, with: {rows: "${steps.a.outputs.rows}", text: "on ${inputs.day}"}}
    """)
    result = run.mock("a", returns(rows=[1, None])).execute({"day": "monday"})
    assert result.outputs == {"said": {"rows": [1, None], "text": "on monday"}}
