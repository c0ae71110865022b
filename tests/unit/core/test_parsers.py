"""The JSON door: what a database or a later reader would choke on is refused with a pointer."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.core.api.parsers import MAX_DEPTH, loads
from apps.core.errors import Invalid

HOSTILE = [
    (b'{"a": NaN}', "/a", "not_json"),
    (b'{"a": [1, Infinity]}', "/a/1", "not_json"),
    (b'{"a": -Infinity}', "/a", "not_json"),
    (b'{"a": 1e400}', "/a", "out_of_range"),
    (b'{"a": 9223372036854775808}', "/a", "out_of_range"),
    (b'{"a": -9223372036854775809}', "/a", "out_of_range"),
    (b'{"a": ' + b"9" * 5000 + b"}", "/a", "out_of_range"),
    (b'{"a": 1, "a": 2}', "/a", "duplicate_key"),
    (b'{"x": [{"b": 1, "b": 1}]}', "/x/0/b", "duplicate_key"),
    (b'{"a": "x\\u0000y"}', "/a", "not_text"),
    (b'{"a": "\\ud800"}', "/a", "not_text"),
    (b'{"a": {"\\udfff": 1}}', "/a", "not_text"),
    (b'{"a/b": {"c~d": NaN}}', "/a~1b/c~0d", "not_json"),
    (b"NaN", "", "not_json"),
]


@pytest.mark.parametrize(("body", "pointer", "code"), HOSTILE)
def test_a21_hostile_json_is_refused_with_a_pointer(body, pointer, code):
    with pytest.raises(Invalid) as refused:
        loads(body)
    assert [(p.pointer, p.code) for p in refused.value.problems] == [(pointer, code)]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"{'a': 1}", b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00", b"+AHs-", b'{"a": "\n"}', b"[1,]", b"\x00"],
    ids=repr,
)
def test_a21_what_is_not_json_is_a_parse_error(body):
    with pytest.raises(Invalid) as refused:
        loads(body)
    assert refused.value.code == "parse_error"


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 5_000, 100_000])
def test_a21_endless_nesting_is_refused(depth):
    with pytest.raises(Invalid):
        loads(b"[" * depth + b"]" * depth)


def test_nesting_up_to_the_limit_is_accepted():
    assert loads(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)


def test_every_mistake_is_listed():
    with pytest.raises(Invalid) as refused:
        loads(b'{"a": NaN, "b": "\\u0000", "c": [1, 2, {"d": 1, "d": 2}]}')
    assert {p.pointer for p in refused.value.problems} == {"/a", "/b", "/c/2/d"}


def test_a_thousand_mistakes_make_a_short_answer():
    with pytest.raises(Invalid) as refused:
        loads(b"[" + b",".join([b"NaN"] * 1_000) + b"]")
    assert len(refused.value.problems) == 100


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES, st.booleans())
@settings(max_examples=200, deadline=None)
def test_a21_everything_else_comes_back_as_it_was(value, escaped):
    assert loads(json.dumps(value, ensure_ascii=escaped).encode()) == value
