"""Inputs: their schemas when a workflow is saved, their values when it is started."""

import time

import pytest

from apps.core.errors import Invalid
from apps.workflows.definition import resolve_inputs
from apps.workflows.definition.inputs import input_problems
from apps.workflows.definition.patterns import objection


def codes(inputs):
    return {(each.pointer, each.code) for each in input_problems(inputs)}


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        ({"type": "strin"}, "/type"),
        ({"minimum": "x"}, "/minimum"),
        ({"$ref": "http://example.com/x.json"}, "/$ref"),
        ({"$ref": "file:///etc/passwd"}, "/$ref"),
        ({"$ref": "other.json#/a"}, "/$ref"),
        ({"items": {"$ref": "#/$defs/none"}}, "/items/$ref"),
        ({"$ref": "#"}, ""),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"$ref": "#/$defs/a"}}}, ""),
        ({"$id": "http://example.com/"}, "/$id"),
        ({"$dynamicRef": "#x"}, "/$dynamicRef"),
        ({"patternProperties": {"(a+)+$": {}}}, "/patternProperties"),
        ({"type": "string", "pattern": "(a+)+$"}, "/pattern"),
        ({"type": "string", "pattern": "(("}, "/pattern"),
        ({"format": "phone"}, "/format"),
        ({"description": "x" * 40_000}, ""),
        ({"type": "integer", "default": "x"}, "/default"),
    ],
)
def test_schemas_that_are_refused(schema, where):
    assert {pointer for pointer, _ in codes({"x": schema})} == {f"/inputs/x{where}"}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "string", "default": "${not.evaluated"},
        {"type": ["string", "null"], "default": None},
        {"properties": {"$ref": {"type": "string"}, "pattern": {"type": "string"}, "format": {"enum": [1]}}},
        {"items": {"$ref": "#/$defs/a"}, "$defs": {"a": {"type": "integer"}}},
        {"const": {"$ref": "http://x"}, "enum": [{"$ref": "x"}], "examples": [{"pattern": "("}]},
        {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$", "default": "2024-01-01"},
        {"type": "string", "format": "date-time", "default": "2024-01-01T00:00:00Z"},
    ],
)
def test_schemas_that_are_fine(schema):
    assert codes({"x": schema}) == set()


def test_names_of_inputs():
    assert codes({"ok-name_1": {}, "a b": {}, "1st": {}, "": {}, "x" * 101: {}, "a.b": {}}) == {
        ("/inputs/a b", "bad_name"),
        ("/inputs/1st", "bad_name"),
        ("/inputs/", "bad_name"),
        (f"/inputs/{'x' * 101}", "bad_name"),
        ("/inputs/a.b", "bad_name"),
    }


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+$", "(a|a)*$", "(a?)*x", "((a*)b)*", "(?:a|b|ab)+c", "(a*){2,}", r"(a)\1", "(?=a)b", "(?<!a)b", "a*a*a*b",
     "^a*a*a*a*b", "a?" * 40 + "a" * 40, "x" * 300, "[", "a{1,1000}a{1,1000}a{1,1000}b", "(?P<n>a+)*"],
)  # fmt: skip
def test_patterns_that_could_take_long_are_refused(pattern):
    assert objection(pattern)


@pytest.mark.parametrize(
    "pattern",
    [r"^[a-z0-9-]+$", r"^\d{4}-\d{2}-\d{2}$", r"^[^@]+@[^@]+\.[a-z]{2,}$", "^(dev|prod)$", r"^v\d+(?:-rc)?$",
     r"^[(+*|?]\*\+$", "^s3://"],
)  # fmt: skip
def test_common_patterns_are_fine(pattern):
    assert objection(pattern) is None


def test_the_slowest_patterns_that_pass_end():
    started = time.thread_time()
    with pytest.raises(Invalid):
        resolve_inputs({"x": {"pattern": "^a*a*b"}, "y": {"pattern": "a*b"}}, {"x": "a" * 512, "y": "a" * 512})
    assert time.thread_time() - started < 5


DECLARED = {
    "date": {"type": "string", "format": "date", "default": "2024-01-01"},
    "count": {"type": "integer", "minimum": 1},
    "table": {"type": "object", "properties": {"rows": {"type": "array", "items": {"type": "integer"}}}},
    "text": {"default": "${secrets.key}"},
    "nothing": {"default": None},
}


def test_defaults_are_filled_in_and_are_plain_data():
    assert resolve_inputs(DECLARED, {"count": 2, "table": {}}) == {
        "date": "2024-01-01",
        "count": 2,
        "table": {},
        "text": "${secrets.key}",
        "nothing": None,
    }
    assert resolve_inputs({}, {}) == {}


def test_every_problem_of_what_is_given():
    with pytest.raises(Invalid) as caught:
        resolve_inputs(DECLARED, {"date": "1.1.24", "dat": 1, "table": {"rows": [1, "x", True]}})
    assert caught.value.code == "invalid_inputs"
    assert {(each.pointer, each.code) for each in caught.value.problems} == {
        ("/inputs/date", "bad_input"),
        ("/inputs/dat", "unknown_input"),
        ("/inputs/count", "missing_input"),
        ("/inputs/table/rows/1", "bad_input"),
        ("/inputs/table/rows/2", "bad_input"),
    }
    assert any("did you mean `date`?" in each.message for each in caught.value.problems)


@pytest.mark.parametrize(
    ("value", "code"), [(float("nan"), "bad_number"), (2**64, "bad_number"), ("\0", "bad_text"), ("\ud800", "bad_text")]
)
def test_what_no_database_stores_is_refused(value, code):
    with pytest.raises(Invalid) as caught:
        resolve_inputs({"x": {}}, {"x": [value]})
    assert [(each.pointer, each.code) for each in caught.value.problems] == [("/inputs/x/0", code)]


def test_values_that_are_large_or_deep_are_refused_quickly():
    deep = 1
    for _ in range(60):
        deep = [deep]
    nested = {"type": "array", "items": {}}
    for _ in range(40):
        nested = {"type": "array", "items": nested}
    started = time.thread_time()
    unique = {"x": {"type": "array", "uniqueItems": True}}
    assert len(resolve_inputs(unique, {"x": [{"a": number} for number in range(50_000)]})["x"]) == 50_000
    with pytest.raises(Invalid, match="do not fit"):
        resolve_inputs(unique, {"x": [{"a": 1}, {"a": 1.0}]})
    with pytest.raises(Invalid) as caught:
        resolve_inputs({"x": {"items": {"type": "string"}}}, {"x": [1] * 100_000})
    assert len(caught.value.problems) == 20
    list(input_problems({"x": nested | {"default": deep}}))
    assert time.thread_time() - started < 5


def test_a_schema_that_doubles_with_every_reference_is_refused():
    definitions = {f"d{number}": {"anyOf": [{"$ref": f"#/$defs/d{number + 1}"}] * 2} for number in range(60)} | {
        "d60": {"type": "string"}
    }
    assert codes({"x": {"$ref": "#/$defs/d0", "$defs": definitions}}) == {("/inputs/x", "bad_schema")}


def test_messages_do_not_repeat_large_values():
    with pytest.raises(Invalid) as caught:
        resolve_inputs({"x": {"type": "integer"}}, {"x": "y" * 100_000})
    assert len(caught.value.problems[0].message) < 400
