"""References to secrets: where they may stand, whose names they are, and what is compiled of them."""

import pytest

from apps.workflows.definition import compile_graph, problems_of
from tests.unit.definition.conftest import CALLABLES, CONFIGS

KEY = "${secrets.key}"


def found(step, *, known=("key",), **values):
    data = {"name": "w", "steps": [{"id": "a", **step}], **values}
    problems = problems_of(data, executor_configs=CONFIGS, known_callables=CALLABLES, known_secrets=known)
    return {(problem.pointer, problem.code): problem.message for problem in problems}


@pytest.mark.parametrize(
    "step",
    [
        {"command": ["x"], "environment": {"KEY": f"Bearer {KEY}"}},
        {"command": ["x", KEY]},
        {"image": "a:1", "environment": {"KEY": KEY}},
        {"http": {"url": "https://x.example/", "headers": {"Authorization": f"Bearer {KEY}"}}},
        {"python": {"call": "builtin.echo", "with": {"deep": [{"key": KEY}]}}},
    ],
)
def test_what_performs_a_step_is_given_secrets(step):
    assert found(step) == {}
    assert found(step, known=None) == {}


@pytest.mark.parametrize(
    ("step", "pointer"),
    [
        ({"python": "builtin.noop", "when": f"{KEY}"}, "/steps/0/when"),
        ({"python": "builtin.noop", "for_each": KEY}, "/steps/0/for_each"),
        ({"python": "builtin.noop", "cache": {"key": KEY, "ttl_seconds": 5}}, "/steps/0/cache/key"),
        ({"wait": {"until": KEY}}, "/steps/0/wait/until"),
        ({"workflow": {"id": "x", "inputs": {"a": KEY}}}, "/steps/0/workflow/inputs/a"),
        ({"approval": {"form": {"title": KEY}}}, "/steps/0/approval/form/title"),
    ],
)
def test_what_becomes_a_row_is_given_none(step, pointer):
    assert list(found(step)) == [(pointer, "secret_not_here")]


def test_neither_are_outputs_and_limits():
    step = {"python": "builtin.noop"}
    assert list(found(step, outputs=[{"name": "k", "value": KEY}])) == [("/outputs/0/value", "secret_not_here")]
    limit = {"key": KEY, "limit": 1, "on_conflict": "queue"}
    assert list(found(step, concurrency=limit)) == [("/concurrency/key", "secret_not_here")]
    assert found({"command": ["x"]}, container_config={"image": "a:1", "environment": {"K": KEY}}) == {}


def test_a_secret_that_may_not_be_used_reads_as_one_that_is_not_there():
    step = {"command": ["x", "${secrets.kee}"]}
    ((where, message),) = found(step).items()
    assert where == ("/steps/0/command/1", "unknown_secret")
    assert "that you may use" in message
    assert "did you mean `key`" in message


def test_a_step_knows_its_secrets():
    steps = [
        {"id": "a", "command": ["x", KEY], "environment": {"B": "${secrets['other']}"}},
        {"id": "b", "python": {"call": "builtin.echo", "with": {"literal": "$${secrets.key}"}}},
    ]
    graph = compile_graph({"name": "w", "steps": steps})
    assert graph.steps["a"].secrets == {"key", "other"}
    assert graph.steps["b"].secrets == frozenset()
