"""One step, many items: `for_each`."""

import pytest

from apps.workflows.testing import fails, returns, takes

MAP = """
name: w
inputs: {many: {type: array, default: [a, b, c]}}
outputs: [{name: all, value: "${steps.load.outputs}"}]
steps:
  - id: load
    for_each: "${inputs.many}"
    max_parallel: 2
    retries: 1
    python: {call: team.load, with: {name: "${item}"}}
  - {id: after, depends_on: [load], python: {call: builtin.echo, with: {got: "${steps.load.outputs}"}}}
"""


def one(call):
    return {"name": call.arguments["name"]}


def test_its_outputs_are_those_of_its_items_in_order(workflow):
    backwards = takes(10, one)
    run = workflow(MAP).mock("load", one).mock("load[0]", backwards)
    result = run.execute()
    assert result.outputs == {"all": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}
    assert result.task("after").outputs == {"got": result.outputs["all"]}
    assert result.task("load[2]").item == "c"
    assert result.task("load[0]").finished > result.task("load[2]").finished


def test_items_have_their_values_with_their_types_and_parts(workflow):
    run = workflow("""
    name: w
    steps:
      - id: load
        for_each: [{n: 1}, {n: 2}]
        python: {call: builtin.echo, with: {n: "${item.n}", text: "item ${item.n}"}}
    """)
    assert run.execute().task("load").outputs == [{"n": 1, "text": "item 1"}, {"n": 2, "text": "item 2"}]


def test_never_more_at_once_than_max_parallel(workflow):
    run = workflow(MAP).mock("load", takes(10))
    result = run.execute({"many": list(range(7))})
    assert result.seconds == 40
    begins = [entry for entry in result.journal.entries("task.started") if entry.step_id != "after"]
    assert [entry.at for entry in begins] == [0, 0, 10, 10, 20, 20, 30]
    assert [entry.step_id for entry in begins] == [f"load[{n}]" for n in range(7)]


def test_an_empty_list_is_done_at_once(workflow):
    result = workflow(MAP).execute({"many": []})
    assert result.status == "completed"
    assert result.outputs == {"all": []}
    assert result.task("after").outputs == {"got": []}


@pytest.mark.parametrize("value", ["word", 7, {"a": 1}, None])
def test_what_is_no_list_fails_the_step(workflow, value):
    run = workflow("""
    name: w
    steps:
      - {id: find, python: team.find}
      - {id: load, depends_on: [find], for_each: "${steps.find.outputs.many}", python: builtin.noop}
    """)
    result = run.mock("find", returns(many=value)).execute()
    assert result.status == "failed"
    assert "for_each: it must be a list" in result.error["message"]
    assert result.error["step_id"] == "load"


def test_a_list_made_by_another_step(workflow):
    run = workflow("""
    name: w
    steps:
      - {id: find, python: team.find}
      - {id: load, depends_on: [find], for_each: "${steps.find.outputs.many}",
         python: {call: builtin.echo, with: {is: "${item}", of: "${steps.find.outputs.by}"}}}
      - {id: again, depends_on: [load], for_each: "${steps.load.outputs}",
         python: {call: builtin.echo, with: {was: "${item.is}"}}}
    """)
    result = run.mock("find", returns(many=[1, 2], by="x")).execute()
    assert result.task("load").outputs == [{"is": 1, "of": "x"}, {"is": 2, "of": "x"}]
    assert result.task("again").outputs == [{"was": 1}, {"was": 2}]


def test_an_item_is_retried_by_itself(workflow):
    result = workflow(MAP).mock("load", one).mock("load[1]", fails(), one).execute()
    assert result.status == "completed"
    assert [result.task(f"load[{n}]").attempts for n in range(3)] == [1, 2, 1]


def test_a_failed_item_fails_the_step_after_all_others_were_done(workflow):
    result = workflow(MAP).mock("load", one).mock("load[0]", fails(message="no a")).execute()
    assert result.status == "failed"
    assert [str(result.task(f"load[{n}]").status) for n in range(3)] == ["failed", "completed", "completed"]
    assert result.error["type"] == "items"
    assert "1 of 3 items failed; the first was load[0]: no a" in result.error["message"]
    assert result.task("load").outputs == [None, {"name": "b"}, {"name": "c"}]
    assert result.task("after").status == "skipped"


def test_waits_and_approvals_have_items_too(workflow):
    run = workflow("""
    name: w
    steps:
      - {id: sign, for_each: [x, y, z], approval: {}}
    """)
    result = run.approve("sign[0]", by="ann").approve("sign[1]", by="bob", at=5).reject("sign[2]", at=9).execute()
    assert result.seconds == 9
    assert [out and out["by"] for out in result.task("sign").outputs] == ["ann", "bob", None]
    assert result.status == "failed"
