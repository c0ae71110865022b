"""What is tried again, when, and how often; what a lost performer costs."""

import time

import pytest

from apps.workflows.testing import fails, lost, returns, takes


def delays(result, step="a"):
    return [entry.data["delay_seconds"] for entry in result.journal.entries("task.retrying", step)]


def test_a_failed_attempt_is_tried_again_after_the_delay(workflow):
    run = workflow("""
    name: w
    steps: [{id: a, python: team.a, retries: 2, retry_delay: 30}]
    """)
    result = run.mock("a", fails(2), returns(n=1)).execute()
    assert result.status == "completed"
    assert result.journal.of("a") == [
        "task.started", "task.retrying", "task.started", "task.retrying", "task.started", "task.completed",
    ]  # fmt: skip
    assert (result.task("a").attempts, result.task("a").failures) == (3, 2)
    assert result.seconds == 60


def test_retries_that_are_used_up_fail_the_execution(workflow):
    run = workflow("""
    name: w
    steps: [{id: a, python: team.a, retries: 2}]
    """)
    result = run.mock("a", fails(message="no such day")).execute()
    assert result.status == "failed"
    assert result.task("a").attempts == 3
    assert result.error == {"type": "error", "message": "no such day", "retryable": True, "step_id": "a"}


def test_the_delay_grows_by_its_factor_up_to_its_limit(workflow):
    run = workflow("""
    name: w
    steps:
      - {id: a, python: team.a, retry: {max_attempts: 7, delay: 10, backoff: 3, max_delay: 200}}
    """)
    assert delays(run.mock("a", fails()).execute()) == [10, 30, 90, 200, 200, 200]


def test_full_jitter_draws_each_delay_from_nothing_up_to_its_value(workflow):
    run = workflow("""
    name: w
    steps:
      - {id: a, for_each: "${inputs.many}", python: team.a,
         retry: {max_attempts: 4, delay: 100, backoff: 2, jitter: true}}
    inputs: {many: {type: array}}
    """)
    result = run.mock("a", fails(3), returns()).execute({"many": list(range(50))})
    drawn = [delays(result, f"a[{number}]") for number in range(50)]
    for nth, bound in enumerate((100, 200, 400)):
        nths = [of_item[nth] for of_item in drawn]
        assert 0 <= min(nths) < 0.2 * bound
        assert 0.8 * bound < max(nths) <= bound
        assert len(set(nths)) > 40


@pytest.mark.parametrize(
    ("rule", "failure", "attempts"),
    [
        ("on: [connection]", fails(type="connection"), 3),
        ("on: [connection]", fails(type="http_status"), 1),
        ("not_on: [timeout]", fails(type="timeout"), 1),
        ("not_on: [timeout]", fails(type="connection"), 3),
        ("on: [75]", fails(exit_code=75), 3),
        ("on: [75]", fails(exit_code=1), 1),
        ("not_on: [2]", fails(exit_code=2), 1),
        ("on: [ConnectionError]", fails(exception="ConnectionError"), 3),
        ("on: [ConnectionError]", fails(exception="KeyError"), 1),
        ("on: [error], not_on: [KeyError]", fails(exception="KeyError"), 1),
        ("on: []", fails(retryable=False), 1),
    ],
)
def test_which_errors_are_tried_again(workflow, rule, failure, attempts):
    run = workflow(f"""
    name: w
    steps: [{{id: a, command: [run], retry: {{max_attempts: 3, {rule}}}}}]
    """)
    assert run.mock("a", failure).execute().task("a").attempts == attempts


def test_what_a_function_raises_is_known_by_its_class(workflow):
    run = workflow("""
    name: w
    steps: [{id: a, python: team.a, retry: {max_attempts: 3, on: [ZeroDivisionError]}}]
    """)
    result = run.mock("a", lambda call: {"n": 1 // (call.attempt - 1)}).execute()
    assert result.task("a").outputs == {"n": 1}
    assert result.task("a").attempts == 2


def test_an_hour_of_retries_takes_no_time(workflow):
    run = workflow("""
    name: w
    steps: [{id: a, python: team.a, retries: 60, retry_delay: 60}]
    """)
    began = time.monotonic()
    result = run.mock("a", fails(60), returns()).execute()
    assert result.seconds == 3600
    assert time.monotonic() - began < 1


def test_a_lost_performer_is_paid_from_a_budget_of_its_own(workflow):
    run = workflow("""
    name: w
    steps: [{id: a, python: team.a}]
    """)
    result = run.mock("a", takes(5, lost(3)), returns()).execute()
    assert result.status == "completed"
    assert result.journal.of("a") == ["task.started", "task.lost"] * 3 + ["task.started", "task.completed"]
    assert (result.task("a").losses, result.task("a").failures) == (3, 0)
    assert result.seconds == 15


def test_a_step_that_kills_its_performers_is_quarantined(workflow):
    run = workflow("""
    name: w
    steps: [{id: a, python: team.a, retry: {max_attempts: 9, lost: 1}}]
    """)
    result = run.mock("a", lost()).execute()
    assert result.status == "failed"
    assert result.error["type"] == "lost"
    assert "quarantined" in result.error["message"]
    assert result.task("a").attempts == 2
