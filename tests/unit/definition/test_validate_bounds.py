"""Validation of large definitions and of whatever else is sent: bounded, and always an answer."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from apps.workflows.definition import problems_of
from tests.unit.definition.conftest import CALLABLES, CONFIGS


def chain(count):
    steps = [
        {
            "id": f"s{number}",
            "depends_on": [f"s{number - 1}"] if number else [],
            "python": {"call": "builtin.echo", "with": {"x": f"${{steps.s{number - 1}.outputs.x}}" if number else 1}},
        }
        for number in range(count)
    ]
    return {"name": "w", "steps": steps}


def test_ten_thousand_steps_are_validated_in_seconds(problems):
    data = chain(10_000)
    started = time.thread_time()
    assert problems(data) == []
    assert time.thread_time() - started < 5
    data["steps"].append({"id": "more", "python": "builtin.noop"})
    assert [(each.pointer, each.code) for each in problems(data)] == [("/steps", "too_long")]


def test_ten_thousand_steps_in_a_circle_and_as_many_unknown_names(problems):
    data = chain(10_000)
    data["steps"][0]["depends_on"] = ["s9999"]
    for step in data["steps"]:
        step["depends_on"].append(step["id"] + "x")
    started = time.thread_time()
    answer = problems(data)
    assert time.thread_time() - started < 10
    assert len(answer) == 1001
    assert answer[0].code == "cycle"
    assert len(answer[0].message) < 500
    assert "9,001 more" in answer[-1].message


def test_a_reference_far_back_is_an_ancestor(problems):
    data = chain(2000)
    data["steps"][-1]["when"] = "${steps.s0.outputs.x}"
    assert problems(data) == []
    data["steps"][0]["when"] = "${steps.s1999.outputs.x}"
    assert [each.code for each in problems(data)] == ["not_a_dependency"]


KEYS = st.sampled_from(
    ["name", "steps", "id", "python", "call", "with", "command", "image", "depends_on", "when", "inputs", "type",
     "default", "outputs", "value", "http", "url", "retry", "container_config", "environment", "volumes", "for_each"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats()
    | st.sampled_from(["a", "b", "${steps.a.outputs.x}", "${inputs.a", "builtin.noop", "string", "/x", "${item}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip
STEPS = st.lists(st.dictionaries(KEYS, VALUES, max_size=5) | VALUES, max_size=4)


@settings(max_examples=300, deadline=None)
@given(data=st.dictionaries(KEYS, VALUES, max_size=5), steps=STEPS)
def test_whatever_is_sent_there_is_an_answer(data, steps):
    for each in problems_of({**data, "steps": steps}, executor_configs=CONFIGS, known_callables=CALLABLES):
        assert each.code
        assert each.message
        assert each.pointer == "" or each.pointer.startswith("/")
