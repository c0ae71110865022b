"""Four limits on time: of waiting in line, of an attempt, of all attempts, of the execution."""

from apps.workflows.testing import fails, returns, takes


def test_an_attempt_that_takes_too_long_is_a_failure_that_may_be_tried_again(workflow):
    run = workflow("""
    name: w
    steps: [{id: a, python: team.a, timeout_seconds: 10, retries: 1}]
    """)
    result = run.mock("a", takes(60), takes(9, returns(n=1))).execute()
    assert result.journal.of("a") == ["task.started", "task.retrying", "task.started", "task.completed"]
    assert result.seconds == 19


def test_without_a_retry_it_ends_as_timed_out(workflow):
    run = workflow("""
    name: w
    steps: [{id: a, python: team.a, timeout_seconds: 10}]
    """)
    result = run.mock("a", takes(60)).execute()
    assert (result.status, result.task("a").status) == ("failed", "timed_out")
    assert result.error["type"] == "timeout"
    assert result.seconds == 10


def test_all_attempts_together_have_a_limit_which_ends_the_one_that_runs(workflow):
    run = workflow("""
    name: w
    steps: [{id: a, python: team.a, retries: 9, retry_delay: 10, total_timeout_seconds: 100}]
    """)
    result = run.mock("a", takes(30, fails())).execute()
    assert result.task("a").status == "timed_out"
    assert result.task("a").attempts == 3
    assert result.seconds == 100
    assert "longer than 100 s" in result.error["message"]


def test_it_counts_from_the_first_attempt_and_also_between_two(workflow):
    run = workflow("""
    name: w
    steps:
      - {id: nap, python: {call: builtin.sleep, with: {seconds: 500}}}
      - {id: a, depends_on: [nap], python: team.a, retries: 1, retry_delay: 1000, total_timeout_seconds: 100}
    """)
    result = run.mock("a", fails()).execute()
    assert result.task("a").attempts == 1
    assert result.seconds == 600


def test_a_task_that_nobody_takes_times_out(workflow):
    run = workflow(
        """
        name: w
        steps:
          - {id: a, python: team.a}
          - {id: b, python: team.b, queue_timeout_seconds: 30}
        """,
        slots=1,
    )
    result = run.mock("a", takes(100)).mock("b", returns()).execute()
    assert result.task("b").status == "timed_out"
    assert result.task("b").attempts == 0
    assert result.task("b").finished == 30
    assert "nobody took it for 30 s" in result.error["message"]


def test_waiting_for_dependencies_is_no_waiting_in_line(workflow):
    run = workflow("""
    name: w
    steps:
      - {id: a, python: team.a}
      - {id: b, depends_on: [a], python: builtin.noop, queue_timeout_seconds: 30}
    """)
    assert run.mock("a", takes(100)).execute().status == "completed"


def test_an_execution_that_takes_too_long_starts_nothing_new_and_stops_what_runs(workflow):
    run = workflow("""
    name: w
    timeout_seconds: 50
    steps:
      - {id: a, python: team.a}
      - {id: b, depends_on: [a], python: builtin.noop}
    """)
    result = run.mock("a", takes(100)).execute()
    assert result.status == "timed_out"
    assert result.seconds == 50
    assert {name: task.status for name, task in result.tasks.items()} == {"a": "cancelled", "b": "cancelled"}
    assert "execution.timeout" in result.journal.of("")
