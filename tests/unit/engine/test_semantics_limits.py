"""Results that are used again, and starts that are spread over time."""

import itertools

from apps.workflows.testing import fails, returns

CACHED = """
name: w
inputs: {day: {type: string, default: monday}}
outputs: [{name: n, value: "${steps.a.outputs.n}"}]
steps:
  - {id: a, python: team.a, cache: {key: "${inputs.day}", ttl_seconds: 600}}
  - {id: b, depends_on: [a], python: builtin.noop}
"""


def counting():
    """A mock that leaves a higher number each time it is done."""
    numbers = itertools.count(1)
    return lambda call: {"n": next(numbers)}


def cached(workflow):
    return workflow(CACHED).mock("a", counting())


def test_a_second_execution_uses_the_result_of_the_first(workflow):
    run = cached(workflow)
    first = run.execute()
    second = run.later(599).execute()
    assert (first.outputs, second.outputs) == ({"n": 1}, {"n": 1})
    assert second.journal.of("a") == ["task.completed"]
    (line,) = second.journal.entries("task.completed", "a")
    assert (line.data["cached"], line.data["origin"]) == (True, first.id)
    assert second.task("b").status == "completed"


def test_after_its_time_it_is_done_again(workflow):
    run = cached(workflow)
    run.execute()
    assert run.later(600).execute().outputs == {"n": 2}


def test_another_key_is_another_result(workflow):
    run = cached(workflow)
    assert [run.execute({"day": day}).outputs["n"] for day in ("monday", "friday", "monday")] == [1, 2, 1]


def test_a_failure_is_not_kept(workflow):
    run = workflow(CACHED).mock("a", fails(), returns(n=1))
    assert run.execute().status == "failed"
    assert run.execute().outputs == {"n": 1}


def test_items_have_keys_of_their_own(workflow):
    run = workflow("""
    name: w
    inputs: {many: {type: array}}
    steps:
      - {id: a, for_each: "${inputs.many}", python: team.a, cache: {key: "${item}"}}
    """)
    run.mock("a", counting()).execute({"many": ["x", "y"]})
    result = run.execute({"many": ["y", "z"]})
    assert result.task("a").outputs == [{"n": 2}, {"n": 3}]
    assert result.journal.of("a[0]") == ["task.completed"]


def test_a_key_that_has_no_value_fails_the_step(workflow):
    run = workflow("""
    name: w
    steps:
      - {id: a, python: team.a}
      - {id: b, depends_on: [a], python: builtin.noop, cache: {key: "${steps.a.outputs.n}"}}
    """)
    result = run.mock("a", returns()).execute()
    assert result.status == "failed"
    assert "cache.key" in result.error["message"]


def test_a_rate_limit_spreads_starts_after_a_burst(workflow):
    run = workflow("""
    name: w
    steps:
      - {id: a, for_each: [1, 2, 3, 4], python: builtin.noop, rate_limit: {name: api, per_minute: 6, burst: 2}}
    """)
    result = run.execute()
    assert [result.task(f"a[{n}]").started for n in range(4)] == [0, 0, 10, 20]
    assert result.status == "completed"


def test_steps_that_name_the_same_limit_share_it(workflow):
    run = workflow("""
    name: w
    steps:
      - {id: a, python: builtin.noop, rate_limit: {name: api, per_minute: 1}}
      - {id: b, python: builtin.noop, rate_limit: {name: api, per_minute: 1}}
      - {id: c, python: builtin.noop, rate_limit: {name: other, per_minute: 1}}
    """)
    result = run.execute()
    assert [result.task(name).started for name in "abc"] == [0, 60, 0]
