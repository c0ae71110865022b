"""Pause, resume and cancel."""

from apps.workflows.testing import returns, takes

CHAIN = """
name: w
steps:
  - {id: a, python: team.a}
  - {id: b, depends_on: [a], python: team.b}
"""


def chain(workflow):
    return workflow(CHAIN).mock("a", takes(10, returns(n=1))).mock("b", takes(10))


def test_while_it_is_paused_what_runs_goes_on_and_nothing_new_starts(workflow):
    result = chain(workflow).pause(at=5).resume(at=100).execute()
    assert result.status == "completed"
    assert (result.task("a").finished, result.task("b").started, result.seconds) == (10, 100, 110)
    assert [e for e in result.journal.of("") if "paused" in e or "resumed" in e] == [
        "execution.paused", "execution.resumed",
    ]  # fmt: skip


def test_paused_before_it_began(workflow):
    result = chain(workflow).pause(at=0).resume(at=50).execute()
    assert (result.task("a").started, result.status) == (50, "completed")


def test_an_execution_whose_last_step_ends_while_it_is_paused_is_completed(workflow):
    result = chain(workflow).pause(at=15).execute()
    assert (result.status, result.seconds) == ("completed", 20)


def test_times_run_on_while_it_is_paused(workflow):
    run = workflow("""
    name: w
    steps:
      - {id: nap, wait: {seconds: 60}}
      - {id: b, depends_on: [nap], python: builtin.noop, queue_timeout_seconds: 30}
    """)
    result = run.pause(at=5).resume(at=100).execute()
    assert result.task("nap").finished == 60
    assert (result.task("b").status, result.task("b").finished) == ("timed_out", 90)


def test_a_cancel_stops_what_runs_and_starts_nothing_new(workflow):
    result = chain(workflow).cancel(at=5).execute()
    assert result.status == "cancelled"
    assert result.seconds == 5
    assert {name: str(task.status) for name, task in result.tasks.items()} == {"a": "cancelled", "b": "cancelled"}
    types = [entry.type for entry in result.journal]
    assert "task.started" not in types[types.index("execution.cancel_requested") :]


def test_a_cancel_ends_items_waits_and_approvals(workflow):
    run = workflow("""
    name: w
    steps:
      - {id: many, for_each: [1, 2, 3, 4], max_parallel: 2, python: team.many}
      - {id: sign, approval: {}}
      - {id: nap, wait: {seconds: 1000}}
      - {id: after, depends_on: [many], on: always, python: builtin.noop}
    """)
    result = run.mock("many", takes(10)).cancel(at=15).execute()
    assert (result.status, result.seconds) == ("cancelled", 15)
    assert result.task("many[0]").status == "completed"
    assert {str(result.task(name).status) for name in ("many", "many[2]", "sign", "nap", "after")} == {"cancelled"}


def test_a_paused_execution_can_be_cancelled(workflow):
    result = chain(workflow).pause(at=5).cancel(at=50).execute()
    assert (result.status, result.seconds) == ("cancelled", 50)
    assert result.task("a").status == "completed"
