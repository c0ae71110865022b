"""The harness itself: what it performs, and what it says to a test that is not right."""

import subprocess
import sys
from pathlib import Path

import pytest

from apps.core.errors import Invalid
from apps.executors import StepFailed
from apps.workflows.testing import Harness, HarnessError, Limits, calls, fails, lost, returns, takes

ROOT = Path(__file__).resolve().parents[3]
ONE = """
name: One
inputs: {n: {type: integer, default: 1}}
outputs: [{name: left, value: "${steps.fetch.outputs}"}]
steps:
  - {id: fetch, python: {call: team.fetch, with: {n: "${inputs.n}"}}}
"""


def refused(call, *arguments, **named):
    with pytest.raises((HarnessError, Invalid)) as caught:
        call(*arguments, **named)
    return str(caught.value)


def test_neither_the_harness_nor_its_plugin_imports_django():
    code = "import sys, apps.workflows.testing.plugin; sys.exit('django' in sys.modules or 'psycopg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# --- where a definition comes from ------------------------------------------------------------------------------------


def test_a_definition_is_text_a_file_or_data(workflow, tmp_path):
    (tmp_path / "one.yaml").write_text(ONE)
    data = {"name": "w", "steps": [{"id": "a", "python": "builtin.noop"}]}
    assert workflow(ONE).name == "One"
    assert workflow(tmp_path / "one.yaml").name == "One"
    assert workflow("one.yaml", folders=[tmp_path]).name == "One"
    assert workflow(data).execute().status == "completed"
    assert workflow("examples/sales-report.yaml").graph.steps


def test_a_file_that_is_not_there_is_named_with_where_it_was_looked_for(workflow):
    assert str(Path(__file__).parent / "absent.yaml") in refused(workflow, "absent.yaml")


def test_a_definition_that_is_not_valid_is_refused_with_every_problem():
    message = refused(Harness, "name: w\nsteps:\n - {id: a, retrys: 1, python: builtin.ehco}\n - {id: a, wait: {}}\n")
    for part in ("/steps/0/retrys: unknown key", "did you mean `builtin.echo`?", "/steps/1/id: the id `a` is taken"):
        assert part in message


def test_inputs_that_do_not_fit_are_refused_with_every_problem(workflow):
    message = refused(workflow(ONE).execute, {"n": "one", "m": 1})
    assert "/inputs/n" in message
    assert "/inputs/m" in message


# --- mocks ------------------------------------------------------------------------------------------------------------


def test_outcomes_are_used_up_in_their_order_and_the_last_goes_on(workflow):
    run = workflow(ONE).mock("fetch", {"n": 1}, lost(), returns(n=2), fails())
    assert [run.execute().outputs.get("left") for _ in range(4)] == [{"n": 1}, {"n": 2}, None, None]


def test_a_function_is_told_what_the_attempt_is_about(workflow):
    run = workflow("""
    name: w
    inputs: {day: {type: string}}
    steps:
      - {id: load, for_each: [x, y], retries: 1, python: {call: team.load, with: {item: "${item}"}}}
    """)
    seen = []

    def load(call):
        seen.append((call.step_id, call.kind, call.attempt, call.item, call.arguments, call.inputs["day"]))
        return fails() if call.attempt == 1 else None

    assert run.mock("load", load).execute({"day": "monday"}).status == "completed"
    assert sorted(seen) == [
        ("load[0]", "python", 1, "x", {"item": "x"}, "monday"),
        ("load[0]", "python", 2, "x", {"item": "x"}, "monday"),
        ("load[1]", "python", 1, "y", {"item": "y"}, "monday"),
        ("load[1]", "python", 2, "y", {"item": "y"}, "monday"),
    ]


def test_a_step_for_agents_is_mocked_as_any_other(workflow):
    run = workflow("""
    name: w
    outputs: [{name: verdict, value: "${steps.review.outputs.verdict}"}]
    steps:
      - {id: review, retries: 1, agent: {requires: [kind == reviewer], with: {text: "${'a' == 'a'}"}}}
    """)
    with pytest.raises(HarnessError, match="has no mock"):
        run.execute()
    seen = []

    def review(call):
        seen.append((call.kind, call.config))
        return fails() if call.attempt == 1 else returns(verdict="good")

    assert run.mock("review", review).execute().outputs == {"verdict": "good"}
    assert seen == [("agent", {"text": True})] * 2


def test_what_a_function_raises_is_a_failure(workflow):
    def fetch(call):
        raise StepFailed("no such day", type="refused", retryable=True)

    error = workflow(ONE).mock("fetch", fetch).execute().error
    assert (error["type"], error["message"], error["retryable"]) == ("refused", "no such day", True)
    error = workflow(ONE).mock("fetch", lambda call: {}["x"]).execute().error
    assert (error["type"], error["exception"], error["message"]) == ("error", "KeyError", "KeyError: 'x'")


def test_an_assertion_in_a_function_fails_the_test(workflow):
    def fetch(call):
        assert call.arguments == {"n": 2}

    with pytest.raises(AssertionError, match="'n': 1"):
        workflow(ONE).mock("fetch", fetch).execute()


def test_a_callable_of_the_team_is_really_called(workflow):
    async def fetch(n, context, more=0):
        context.progress(50)
        return {"n": n + more, "attempt": context.attempt}

    assert workflow(ONE).mock("fetch", calls(fetch)).execute({"n": 4}).outputs["left"] == {"n": 4, "attempt": 1}
    error = workflow(ONE).mock("fetch", calls(lambda day: {})).execute().error
    assert error["type"] == "invalid"
    assert "'n'" in error["message"] or "'day'" in error["message"]


def test_outputs_that_cannot_be_recorded_fail_the_step(workflow):
    result = workflow(ONE).mock("fetch", lambda call: {"n": object()}).execute()
    assert result.error["type"] == "output"


def test_the_example_runs_with_its_real_callables(workflow):
    from examples import callables

    def at_once(region, context, pause):
        return callables.summarise(region, context)

    run = workflow("examples/sales-report.yaml")
    for step in run.graph.steps.values():
        name = step.config.get("call", "").removeprefix("examples.callables.")
        if step.kind == "python" and not name.startswith("builtin."):
            run.mock(step.id, calls(at_once if name == "summarise" else getattr(callables, name)))
        elif step.kind != "python":
            run.mock(step.id, returns(stdout=""))
    assert run.execute().status == "completed"


@pytest.mark.parametrize(
    ("call", "given", "outputs", "seconds"),
    [
        ("echo", {"a": 1}, {"a": 1}, 0),
        ("noop", {}, {}, 0),
        ("sleep", {"seconds": 3600}, {}, 3600),
        ("progress", {"steps": 4, "seconds": 8}, {"steps": 4}, 8),
        ("fib", {"n": 10}, {"result": 55}, 0),
        ("fail", {"times": 2}, {"attempt": 3}, 0),
    ],
)
def test_builtin_callables_need_no_mock(workflow, call, given, outputs, seconds):
    step = {"id": "a", "retries": 5, "python": {"call": f"builtin.{call}", "with": given}}
    result = workflow({"name": "w", "steps": [step]}).execute()
    assert result.task("a").outputs == outputs
    assert result.seconds == seconds


@pytest.mark.parametrize(
    ("call", "given"), [("sleep", {"seconds": "a"}), ("fib", {"n": 99}), ("fib", {}), ("noop", {"a": 1})]
)
def test_builtin_callables_refuse_what_they_refuse_on_a_server(workflow, call, given):
    step = {"id": "a", "retries": 5, "python": {"call": f"builtin.{call}", "with": given}}
    result = workflow({"name": "w", "steps": [step]}).execute()
    assert (result.status, result.error["type"], result.task("a").attempts) == ("failed", "invalid", 1)


def test_a_request_that_makes_no_sense_once_it_is_rendered_fails_as_on_a_server(workflow):
    run = workflow("""
    name: w
    inputs: {how: {type: string}}
    steps: [{id: ask, http: {url: "https://example.com", method: "${inputs.how}"}}]
    """).mock("ask", returns(status=200))
    assert run.execute({"how": "GET"}).status == "completed"
    assert run.execute({"how": "FETCH"}).error["type"] == "invalid"


# --- tests that are not right -----------------------------------------------------------------------------------------


def test_a_step_without_a_mock_is_named_with_the_fix(workflow):
    message = refused(workflow(ONE).execute)
    assert message == 'step `fetch` (python: team.fetch) has no mock: say what it does, .mock("fetch", returns(…))'
    run = workflow("name: w\nsteps: [{id: sub, workflow: {id: child}}]\n")
    assert '.child("child", …)' in refused(run.execute)


def test_after_such_an_error_the_harness_can_be_used_on(workflow):
    run = workflow(ONE)
    refused(run.execute)
    assert run.mock("fetch", returns(n=1)).execute().status == "completed"


@pytest.mark.parametrize(
    ("prepare", "part"),
    [
        (lambda run: run.mock("fetsh", returns()), "did you mean `fetch`?"),
        (lambda run: run.mock("zzz", returns()), "there are fetch"),
        (lambda run: run.mock("fetch[0]", returns()), "no `for_each`"),
        (lambda run: run.mock("fetch"), "say what it does"),
        (lambda run: run.mock("fetch", 7).execute(), "gave 7"),
        (lambda run: run.approve("fetch"), "it is no approval"),
        (lambda run: run.signal("go", at=-1), "0 or more"),
        (lambda run: run.resume(at=0).mock("fetch", takes(5)).execute(), ".resume(at=0): the execution is pending"),
        (lambda _: fails(type="sad"), "use one of"),
        (lambda _: fails(0), "at least once"),
        (lambda _: takes(-1), "negative"),
        (lambda _: returns(n=object()), "returns(…): outputs.n"),
    ],
)
def test_what_a_test_says_wrongly_is_told(workflow, prepare, part):
    assert part in refused(prepare, workflow(ONE))


def test_a_timer_and_an_approval_are_not_mocked(workflow):
    run = workflow("name: w\nsteps: [{id: nap, wait: {seconds: 5}}, {id: sign, approval: {}}]\n")
    assert "virtual clock" in refused(run.mock, "nap", returns())
    assert ".approve(…)" in refused(run.mock, "sign", returns())


def test_an_execution_that_nobody_moves_says_what_it_waits_for(workflow):
    run = workflow("""
    name: w
    steps:
      - {id: sign, approval: {}}
      - {id: go, wait: {signal: go}}
      - {id: nap, wait: {seconds: 60}}
    """)
    message = refused(run.pause(at=5).execute)
    assert message.startswith("after 60 virtual seconds nothing happens any more")
    for part in ("execution-1 is paused", '.approve("sign")', '.signal("go"'):
        assert part in message


def test_an_endless_execution_ends_with_the_virtual_time_it_may_take(workflow):
    run = workflow(ONE, limits=Limits(seconds=3600)).mock("fetch", takes(3601))
    assert "has not ended after 3600 virtual seconds; its journal ends with" in refused(run.execute)


def test_an_execution_with_too_many_turns_ends(workflow):
    run = workflow("name: w\nsteps: [{id: a, retries: 1000, python: team.a}]\n", limits=Limits(turns=100))
    assert "has not ended after 100 turns" in refused(run.mock("a", fails()).execute)


# --- what a result tells ----------------------------------------------------------------------------------------------


def test_a_journal_has_its_lines_with_number_and_virtual_time(workflow):
    result = workflow(ONE).mock("fetch", takes(5, returns(n=1))).execute()
    assert [(entry.seq, entry.type, entry.step_id, entry.at) for entry in result.journal] == [
        (1, "execution.created", "", 0),
        (2, "execution.started", "", 0),
        (3, "task.started", "fetch", 0),
        (4, "task.completed", "fetch", 5),
        (5, "execution.completed", "", 5),
    ]
    assert repr(result) == "<execution-1 completed after 5 s>"


def test_a_task_that_there_is_not_is_told_with_a_suggestion(workflow):
    result = workflow(ONE).mock("fetch", returns()).execute()
    assert "did you mean `fetch`?" in refused(result.task, "fetsh")


def test_environment_variables_are_those_that_are_given(workflow):
    run = workflow(
        """
        name: w
        steps: [{id: a, python: {call: builtin.echo, with: {url: "${BASE_URL:-none}"}}}]
        """,
        environment={"BASE_URL": "https://example.com"},
    )
    assert run.execute().task("a").outputs == {"url": "https://example.com"}


def test_a_thousand_items_take_little_time(workflow):
    run = workflow("""
    name: w
    inputs: {many: {type: array}}
    steps: [{id: a, for_each: "${inputs.many}", python: team.a}]
    """)
    result = run.mock("a", takes(1, lambda call: {"n": call.item})).execute({"many": list(range(1000))})
    assert result.task("a").outputs == [{"n": n} for n in range(1000)]
    assert result.seconds == 63  # sixteen at a time
