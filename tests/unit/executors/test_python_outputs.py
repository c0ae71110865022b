"""What a callable may return, wherever it runs."""

import json

import pytest

from apps.executors.outputs import checked_outputs

BAD = {
    "list": "return a dict",
    "text": "return a dict",
    "nan": "outputs.a",
    "inf": "outputs.a[0]",
    "nul": "NUL",
    "nul key": "NUL",
    "surrogate": "surrogate",
    "number key": "key 1",
    "set": "set",
    "large": "10,000",
    "digits": "text",
    "deep": "64",
    "endless": "64",
    "unfolding": "allowed",
}


@pytest.mark.parametrize("function", ["hostile", "hostile_in_loop"])
async def test_what_cannot_be_recorded_fails_with_the_fix_and_harms_nothing(run, function):
    for which, words in BAD.items():
        error = (await run(f"crew_reports.{function}", which=which)).error
        assert error is not None, which
        assert (error.type, error.retryable) == ("output", False), which
        assert words in error.message, (which, error.message)
        assert error.message.isprintable()
        assert len(error.message) < 1_000
    assert (await run("crew_reports.total", item=2)).outputs == {"result": 4}


async def test_none_is_no_outputs(run):
    assert (await run("crew_reports.nothing")).outputs == {}


def test_plain_data_comes_back_as_it_was():
    value = {"a": [1, 2.5, True, None, "ü😀", {"b": {}}], "": []}
    assert checked_outputs(value, 1_000) == value


def test_tuples_and_subclasses_become_plain():
    class Text(str): ...

    found = checked_outputs({"a": (1, 2), Text("b"): Text("c")}, 1_000)
    assert found == {"a": [1, 2], "b": "c"}
    assert type(found["b"]) is str


def test_the_limit_is_that_of_compact_json_in_bytes():
    value = {"a": ["ü", 1, {"b": None}]}
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    assert checked_outputs(value, size) == value
    with pytest.raises(ValueError, match=f"{size} bytes"):
        checked_outputs(value, size - 1)


def test_the_deepest_that_is_allowed():
    def nested(depth):
        value = {}
        for _ in range(depth - 1):
            value = {"a": value}
        return value

    assert checked_outputs(nested(64), 10_000) == nested(64)
    with pytest.raises(ValueError, match="deeper than 64"):
        checked_outputs(nested(65), 10_000)
