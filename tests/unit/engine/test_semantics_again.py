"""Done again: a retry keeps the good results, a fork does a step again with all that rests on it."""

import pytest

from apps.workflows.testing import HarnessError, fails, returns, takes

DIAMOND = """
name: w
outputs: [{name: n, value: "${steps.d.outputs.n}"}]
steps:
  - {id: a, python: team.a}
  - {id: b, depends_on: [a], python: team.b}
  - {id: c, depends_on: [a], python: team.c}
  - {id: d, depends_on: [b, c], python: {call: builtin.echo, with: {n: "${steps.b.outputs.n}${steps.c.outputs.n}"}}}
"""
MAP = """
name: w
steps:
  - {id: find, python: team.find}
  - {id: load, depends_on: [find], for_each: "${steps.find.outputs.many}", python: team.load}
  - {id: sum, depends_on: [load], python: {call: builtin.echo, with: {all: "${steps.load.outputs}"}}}
"""


def reused(result):
    return {name for name in result.tasks if result.journal.of(name) == ["task.reused"]}


def test_a_retry_does_again_only_what_did_not_end_well(workflow):
    run = workflow(DIAMOND).mock("a", returns(n=1)).mock("b", takes(100, returns(n=2))).mock("c", fails(), returns(n=3))
    failed = run.execute()
    assert failed.status == "failed"
    result = failed.retry()
    assert result.status == "completed"
    assert result.outputs == {"n": "23"}
    assert reused(result) == {"a", "b"}
    assert result.task("d").attempts == 1
    assert result.seconds == 0
    assert result.percent == 100


def test_a_cancelled_execution_is_taken_up_by_a_retry(workflow):
    run = workflow(DIAMOND).mock("a", returns()).mock("b", takes(50)).mock("c", returns(n=3))
    cancelled = run.cancel(at=5).execute()
    assert cancelled.status == "cancelled"
    result = cancelled.retry(workflow(DIAMOND).mock("b", returns(n=2)))
    assert result.outputs == {"n": "23"}
    assert reused(result) == {"a", "c"}


def test_a_retry_keeps_the_good_items_of_a_step(workflow):
    run = workflow(MAP).mock("find", returns(many=[1, 2, 3])).mock("load", lambda call: {"n": call.item})
    failed = run.mock("load[1]", fails(), returns(n="again")).execute()
    assert failed.status == "failed"
    result = failed.retry()
    assert reused(result) == {"find", "load[0]", "load[2]"}
    assert result.task("sum").outputs == {"all": [{"n": 1}, {"n": "again"}, {"n": 3}]}


def test_an_execution_that_ended_well_cannot_be_retried(workflow):
    run = workflow("""
    name: w
    steps: [{id: a, python: builtin.noop}]
    """)
    with pytest.raises(HarnessError, match="nothing to retry"):
        run.execute().retry()


def test_a_fork_does_a_step_again_and_all_that_rests_on_it(workflow):
    run = workflow(DIAMOND).mock("a", returns(n=1)).mock("b", returns(n=2), returns(n=9)).mock("c", returns(n=3))
    result = run.execute().fork("b")
    assert result.outputs == {"n": "93"}
    assert reused(result) == {"a", "c"}


def test_a_fork_from_the_first_step_does_everything_again(workflow):
    run = workflow(DIAMOND).mock("a", returns(n=1)).mock("b", returns(n=2)).mock("c", returns(n=3))
    assert reused(run.execute().fork("a")) == set()


def test_a_fork_from_the_middle_of_a_map_does_one_item_again(workflow):
    run = workflow(MAP).mock("find", returns(many=[1, 2, 3])).mock("load", lambda call: {"n": call.item})
    first = run.execute()
    result = first.fork("load[1]", workflow(MAP).mock("load", returns(n="other")))
    assert reused(result) == {"find", "load[0]", "load[2]"}
    assert result.task("sum").outputs == {"all": [{"n": 1}, {"n": "other"}, {"n": 3}]}
    assert result.status == "completed"


def test_a_fork_of_a_whole_map_does_all_its_items_again(workflow):
    run = workflow(MAP).mock("find", returns(many=[1, 2])).mock("load", lambda call: {"n": call.item})
    result = run.execute().fork("load")
    assert reused(result) == {"find"}
    assert result.task("load[0]").attempts == 1


def test_a_fork_of_a_fork(workflow):
    run = workflow(MAP).mock("find", returns(many=[1, 2])).mock("load", lambda call: {"n": call.item})
    result = run.execute().fork("sum").fork("load")
    assert result.status == "completed"
    assert result.task("load").outputs == [{"n": 1}, {"n": 2}]
