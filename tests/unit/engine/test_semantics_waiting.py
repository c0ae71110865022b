"""What the engine sees to itself: timers, signals, approvals."""

import pytest

from apps.workflows.testing import HarnessError


def waiting(workflow, wait, **values):
    more = "".join(f", {key}: {value}" for key, value in values.items())
    return workflow(f"""
    name: w
    inputs: {{at: {{type: string, default: ""}}}}
    outputs: [{{name: left, value: "${{steps.a.outputs}}"}}]
    steps: [{{id: a, wait: {wait}{more}}}]
    """)


def test_it_waits_for_seconds_and_holds_no_performer(workflow):
    result = waiting(workflow, "{seconds: 86400}").execute()
    assert result.seconds == 86400
    assert result.journal.of("a") == ["task.waiting", "task.completed"]


@pytest.mark.parametrize("moment", ["2026-01-01T09:00:00+01:00", "2026-01-01T08:00:00Z"])
def test_it_waits_until_a_moment_with_its_zone(workflow, moment):
    result = waiting(workflow, '{until: "${inputs.at}"}').execute({"at": moment})
    assert result.seconds == 8 * 3600
    assert result.outputs["left"] == {"until": "2026-01-01T08:00:00+00:00"}


def test_a_moment_that_has_passed_is_no_wait(workflow):
    assert waiting(workflow, '{until: "2025-12-31T00:00:00Z"}').execute().seconds == 0


@pytest.mark.parametrize("moment", ["2026-01-01T09:00:00", "tomorrow", "9999-12-31T23:59:59-12:00"])
def test_a_moment_without_a_zone_or_sense_fails_the_step(workflow, moment):
    definition = {"name": "w", "inputs": {"moment": {}}, "steps": [{"id": "w", "wait": {"until": "${inputs.moment}"}}]}
    result = workflow(definition).execute(inputs={"moment": moment})
    assert result.status == "failed"
    assert result.error["type"] == "invalid"


def test_a_signal_lets_it_go_on_with_the_payload(workflow):
    result = waiting(workflow, "{signal: go}").signal("go", {"n": 1}, at=60).execute()
    assert (result.seconds, result.outputs) == (60, {"left": {"n": 1}})
    assert result.journal.of("") == [
        "execution.created", "execution.started", "execution.signalled", "execution.completed",
    ]  # fmt: skip


def test_a_signal_that_came_before_is_found_there(workflow):
    run = workflow("""
    name: w
    steps:
      - {id: nap, wait: {seconds: 60}}
      - {id: a, depends_on: [nap], wait: {signal: go}}
      - {id: b, depends_on: [a], wait: {signal: go}}
    """)
    result = run.signal("go", {"n": 1}, at=5).execute()
    assert result.seconds == 60
    assert result.task("b").outputs == {"n": 1}


def test_two_steps_behind_each_other_hear_the_same_signal(workflow):
    run = workflow("""
    name: w
    steps:
      - {id: a, wait: {signal: go}}
      - {id: b, depends_on: [a], wait: {signal: go}}
      - {id: each, for_each: [1, 2, 3], max_parallel: 1, wait: {signal: go}}
    """)
    result = run.signal("go", at=5).execute()
    assert (result.status, result.seconds) == ("completed", 5)


def test_the_first_payload_of_a_signal_stands(workflow):
    result = waiting(workflow, "{signal: go}").signal("go", {"n": 1}).signal("go", {"n": 2}).execute()
    assert result.outputs == {"left": {"n": 1}}


def test_a_signal_that_does_not_come_in_time(workflow):
    result = waiting(workflow, "{signal: go}", timeout_seconds=30).signal("other", at=10).execute()
    assert result.status == "failed"
    assert result.task("a").status == "timed_out"
    assert result.seconds == 30
    assert "the signal `go` did not come in time" in result.error["message"]


def approval(workflow, settings="{}"):
    return workflow(f"""
    name: w
    steps:
      - {{id: sign, approval: {settings}}}
      - {{id: ship, depends_on: [sign], python: {{call: builtin.echo, with: {{by: "${{steps.sign.outputs.by}}"}}}}}}
      - {{id: stop, depends_on: [sign], on: failure, python: builtin.noop}}
    """)


def test_an_approval_goes_on_with_who_gave_it(workflow):
    result = approval(workflow).approve("sign", by="ann", form={"size": 2}, at=3600).execute()
    assert result.status == "completed"
    assert result.seconds == 3600
    assert result.task("sign").outputs == {"approved": True, "by": "ann", "reason": "", "form": {"size": 2}}
    assert result.task("ship").outputs == {"by": "ann"}


def test_a_rejection_is_a_failure_that_others_may_stand_on(workflow):
    result = approval(workflow).reject("sign", by="ann", reason="too big").execute()
    assert result.status == "failed"
    assert result.error["type"] == "rejected"
    assert result.error["message"] == "rejected by ann: too big"
    assert (result.task("ship").status, result.task("stop").status) == ("skipped", "completed")


@pytest.mark.parametrize(
    ("on_timeout", "signed", "ended"),
    [("approve", "completed", "completed"), ("reject", "failed", "failed"), ("fail", "timed_out", "failed")],
)
def test_what_happens_when_nobody_answers_in_time(workflow, on_timeout, signed, ended):
    result = approval(workflow, f"{{timeout_seconds: 60, on_timeout: {on_timeout}}}").execute()
    assert (result.task("sign").status, result.status) == (signed, ended)
    assert result.seconds == 60


def test_an_answer_to_what_was_not_asked_fails_the_test(workflow):
    run = workflow("""
    name: w
    steps: [{id: nap, wait: {seconds: 60}}, {id: sign, depends_on: [nap], approval: {}}]
    """)
    with pytest.raises(HarnessError, match="does not wait for an approval"):
        run.approve("sign", at=30).execute()
