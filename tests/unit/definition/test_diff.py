"""What changed between two definitions, as a person would say it."""

import json
import time

from hypothesis import given
from hypothesis import strategies as st

from apps.workflows.definition.diff import changes


def told(before, after):
    return [(c.pointer, c.op, c.before, c.after, c.step_id) for c in changes(before, after)]


def flow(*steps, **values):
    return {"name": "W", "steps": list(steps), **values}


A, B = {"id": "a", "python": "builtin.noop"}, {"id": "b", "python": "builtin.noop"}


def test_the_same_definition_has_no_changes_and_the_order_of_steps_is_none():
    assert told(flow(A, B), flow(B, A)) == []


def test_what_is_new_gone_and_other_at_the_top():
    before = flow(A, description="old", tags=["x"], inputs={"n": {"type": "integer", "default": 1}})
    after = flow(A, description="new", priority=3, inputs={"n": {"type": "integer", "default": True}})
    assert told(before, after) == [
        ("/description", "replace", "old", "new", None),
        ("/inputs/n/default", "replace", 1, True, None),
        ("/priority", "add", None, 3, None),
        ("/tags", "remove", ["x"], None, None),
    ]


def test_steps_are_known_by_their_id():
    slow = {**B, "timeout_seconds": 5, "retry": {"max_attempts": 2}}
    slower = {**B, "timeout_seconds": 9, "retry": {"max_attempts": 2, "delay": 1}}
    new = {"id": "new", "python": "builtin.noop"}
    assert told(flow(A, slow), flow(new, slower)) == [
        ("/steps/0", "remove", A, None, "a"),
        ("/steps/0", "add", None, new, "new"),
        ("/steps/1/retry/delay", "add", None, 1, "b"),
        ("/steps/1/timeout_seconds", "replace", 5, 9, "b"),
    ]


def test_a_list_is_one_value_and_keys_are_escaped():
    one = {**A, "command": ["x", "y"], "environment": {"a/b": "1"}}
    two = {**A, "command": ["x", "z"], "environment": {"a/b": "2"}}
    assert told(flow(one), flow(two)) == [
        ("/steps/0/command", "replace", ["x", "y"], ["x", "z"], "a"),
        ("/steps/0/environment/a~1b", "replace", "1", "2", "a"),
    ]


def test_ten_thousand_steps_are_compared_in_a_moment():
    before = flow(*[{"id": f"s{n}", "python": "builtin.noop", "depends_on": ["s0"]} for n in range(10_000)])
    after = flow(*[{"id": f"s{n}", "python": "builtin.echo", "depends_on": ["s0"]} for n in reversed(range(10_000))])
    began = time.monotonic()
    assert len(told(before, after)) == 10_000
    assert time.monotonic() - began < 5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=2), JSON, max_size=4), st.dictionaries(st.text(max_size=2), JSON, max_size=4))
def test_the_changes_carried_out_make_the_one_out_of_the_other(before, after):
    result = flow(**before)
    for change in changes(flow(**before), flow(**after)):
        *path, last = [part.replace("~1", "/").replace("~0", "~") for part in change.pointer.split("/")[1:]]
        place = result
        for part in path:
            place[part] = dict(place[part])
            place = place[part]
        if change.op == "remove":
            assert place.pop(last) == change.before
        else:
            assert (change.op == "add") == (last not in place)
            place[last] = change.after
    assert json.dumps(result, sort_keys=True) == json.dumps(flow(**after), sort_keys=True)
