"""Text to data: YAML 1.2 and JSON, and everything in them that is refused."""

import json
import time
from contextlib import contextmanager

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.core.errors import Invalid, PlatformError, TooLarge
from apps.workflows.definition import load
from apps.workflows.definition.loader import data_problems


@contextmanager
def quick(seconds=0.5):  # five times the promised 100 ms: other tests share the machine
    started = time.thread_time()
    yield
    assert time.thread_time() - started < seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on: yes", {"on": "yes"}),
        ("a: [on, off, yes, no, y, n, Yes, ON]", {"a": ["on", "off", "yes", "no", "y", "n", "Yes", "ON"]}),
        ("a: [true, True, FALSE]", {"a": [True, True, False]}),
        ("a: [~, null, Null, ]", {"a": [None, None, None]}),
        ("a:", {"a": None}),
        ("a: [1, -2, +3, 0x1F, 0o17, 007]", {"a": [1, -2, 3, 31, 15, 7]}),
        ("a: [1.5, -.5, 1e3, 1., +1.0E-2]", {"a": [1.5, -0.5, 1000.0, 1.0, 0.01]}),
        ("a: [1_000, 12:30:45, 0b1, '1', 1.2.3, '-']", {"a": ["1_000", "12:30:45", "0b1", "1", "1.2.3", "-"]}),
        ("a: 2024-01-01\nb: 2024-01-01T10:00:00Z", {"a": "2024-01-01", "b": "2024-01-01T10:00:00Z"}),
        ("1: a\ntrue: b\nnull: c", {"1": "a", "true": "b", "null": "c"}),
        ("a: |\n  x\n  y\nb: >-\n  x\n  y", {"a": "x\ny\n", "b": "x y"}),
        ("a: !!str 1\nb: !!int '2'\nc: !!float 3\nd: ! 4\ne: !!seq [!!map {}]",
         {"a": "1", "b": 2, "c": 3.0, "d": "4", "e": [{}]}),
        ("a: &x {k: [1]}\nb: *x", {"a": {"k": [1]}, "b": {"k": [1]}}),
        ("\ufeffa: é", {"a": "é"}),
        ('{"a": [1, 2.5, null, true, "x"]}', {"a": [1, 2.5, None, True, "x"]}),
        ("{a: [b, c]}", {"a": ["b", "c"]}),
        ("", None),
        ("9223372036854775807", 2**63 - 1),
    ],
)  # fmt: skip
def test_what_is_read(text, value):
    assert load(text) == value
    assert load(text.encode()) == value


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2", "duplicate_key", "'c' is given twice at line 4, column 3"),
        ("a: [1,", "syntax", "line 2, column 1"),
        ("a: b: c", "syntax", "line 1, column 5"),
        ("a:\n\t- b", "syntax", "line 2"),
        ("a: 'x", "syntax", "line 1"),
        ("a: *nowhere", "syntax", "no anchor 'nowhere'"),
        ("a: &a [*a]", "syntax", "no anchor 'a'"),
        ("&k a: 1\n*k : 2", "syntax", "a key cannot be an alias"),
        ("{[1]: 2}", "syntax", "a key must be text"),
        ("a\n---\nb", "syntax", "second document"),
        ("a: \x01", "syntax", "control characters"),
        ("a: .nan", "bad_number", "NaN"),
        ("a: -.INF", "bad_number", "infinity"),
        ("a: 1e999", "bad_number", "too large"),
        ("a: 9223372036854775808", "bad_number", "64 bits at line 1, column 4"),
        ("a: " + "9" * 5000, "bad_number", "64 bits"),
        ("a: 0x" + "f" * 5000, "bad_number", "64 bits"),
        ('a: "\\0"', "bad_text", "NUL"),
        ("a: !!int x", "tag", "no int"),
        ("a: !!bool 1", "tag", "no bool"),
        ("a: !!timestamp 2024-01-01", "tag", "not allowed"),
        ("a: !!binary aGk=", "tag", "not allowed"),
        ("a: !!set {x}", "tag", "not allowed"),
        ("a: !mine x", "tag", "not allowed"),
        ("!!int 1: x", "tag", "on a key"),
        (b"\xff\xfe", "bad_text", "UTF-8"),
        ("a: \ud800", "bad_text", "surrogate"),
    ],
)
def test_yaml_that_is_refused(text, code, words):
    with quick(), pytest.raises(Invalid) as caught:
        load(text, "yaml")
    assert caught.value.code == code
    assert words in caught.value.detail


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "duplicate_key", "'c' is given twice"),
        ('{"a" 1}', "syntax", "line 1, column 6"),
        ("{'a': 1}", "syntax", "line 1"),
        ('{"a": NaN}', "bad_number", "NaN"),
        ('{"a": -Infinity}', "bad_number", "Infinity"),
        ('{"a": 1e999}', "bad_number", "infinity"),
        ('{"a": ' + "9" * 5000 + "}", "bad_number", "64 bits"),
        ('{"a": -9223372036854775809}', "bad_number", "64 bits"),
        ('{"a": "\\ud800"}', "bad_text", "surrogate"),
        ('{"a\\u0000": 1}', "bad_text", "NUL"),
    ],
)
def test_json_that_is_refused(text, code, words):
    with quick(), pytest.raises(Invalid) as caught:
        load(text, "json")
    assert caught.value.code == code
    assert words in caught.value.detail


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['id']",
        "a: !!python/object/new:subprocess.Popen [['id']]",
        "!!python/name:os.system x",
        "!!python/module:os x",
        "a: !!python/tuple [1]",
        "!<tag:yaml.org,2002:python/object/apply:os.system> [id]",
        "%TAG ! tag:yaml.org,2002:python/\n---\n!object/apply:os.system [id]",
        "? !!python/object/apply:os.system [id]\n: x",
    ],
)
def test_a29_python_tags_are_refused(text):
    with quick(), pytest.raises(Invalid):
        load(text)


def bomb(levels=9, width=9):
    lines = ["l0: &l0 [" + "lol, " * width + "]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        bomb(),
        bomb(levels=60, width=2),
        "a: &a " + "x" * 2**19 + "\nb: [" + "*a, " * 100_000 + "]",
        "a: &a x\nb: [" + "*a, " * 500_000 + "]",
    ],
    ids=["wide", "deep", "long", "many"],
)
def test_a29_alias_bombs_are_refused_within_100_ms(text):
    with quick(), pytest.raises(TooLarge) as caught:
        load(text)
    assert caught.value.code == "aliases"


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", '{"a":', "[{a: ", "? "])
@pytest.mark.parametrize("content_type", ["yaml", "json", None])
def test_a29_a_million_levels_are_refused_at_once(opening, content_type):
    with quick(), pytest.raises((TooLarge, Invalid)):
        load(opening * (4_000_000 // len(opening)), content_type)


def test_a29_positive_control_64_levels_and_some_aliases_are_read():
    deep = "[" * 64 + "]" * 64
    assert load(deep, "yaml") == load(deep, "json") == json.loads(deep)
    assert load("a: &a {k: v}\nb: [" + "*a, " * 500 + "]")["b"] == [{"k": "v"}] * 500
    with pytest.raises(TooLarge):
        load("[" * 65 + "]" * 65, "yaml")
    with pytest.raises(PlatformError):
        load("[" * 65 + "]" * 65, "json")


def test_more_than_4_mib_are_refused():
    for text in ("x" * (4 * 2**20 + 1), b"x" * (4 * 2**20 + 1), "é" * (2 * 2**20 + 1)):
        with quick(), pytest.raises(TooLarge):
            load(text)


def test_data_from_elsewhere_is_checked_the_same_way():
    data = {"a": [1, {"b/c": float("nan")}], "d": 2**63, "e": "\0", "f": object(), "g": {1: 2}, "h": {"\0": 1}}
    assert {(each.pointer, each.code) for each in data_problems(data)} == {
        ("/a/1/b~1c", "bad_number"),
        ("/d", "bad_number"),
        ("/e", "bad_text"),
        ("/f", "bad_type"),
        ("/g", "bad_key"),
        ("/h", "bad_text"),
    }


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=10),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6), inner, max_size=4),
    max_leaves=15,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(data=PLAIN)
def test_what_json_writes_is_read_back_by_both(data):
    text = json.dumps(data)
    assert load(text, "json") == data
    assert load(json.dumps(data, ensure_ascii=False), "json") == data


@settings(max_examples=150, deadline=None)
@given(data=PLAIN)
def test_what_yaml_writes_is_read_back(data):
    assert load(yaml.safe_dump(data, allow_unicode=True, default_style='"'), "yaml") == data


@settings(max_examples=300, deadline=None)
@given(
    text=st.lists(st.sampled_from([*"abc&*!|>-?:[]{},'\"#%@` \n\t\\01.~<=", "!!", "---", "<<", "&a ", "*a", ": "])).map(
        "".join
    )
)
def test_random_text_is_read_or_refused(text):
    for content_type in ("yaml", "json", None):
        try:
            load(text, content_type)
        except PlatformError as error:
            assert error.detail
