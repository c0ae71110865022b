"""One record, one line of ASCII JSON, whatever is in it."""

import json
import logging
import sys

import pytest

from apps.core.logs import JSONFormatter, request_id

NASTY = "a\r\nINFO forged\x1b[31mred\u2028next\u202eevil\x00"


def line(message, *args, exc_info=None, **extra):
    record = logging.LogRecord("some.logger", logging.WARNING, __file__, 1, message, args, exc_info)
    record.__dict__.update(extra)
    return JSONFormatter().format(record)


@pytest.mark.parametrize("place", ["message", "argument", "extra", "key"])
def test_a25_control_characters_are_escaped_in_one_line(place):
    written = {
        "message": lambda: line(NASTY),
        "argument": lambda: line("user %s", NASTY),
        "extra": lambda: line("x", username=NASTY),
        "key": lambda: line("x", **{NASTY: 1}),
    }[place]()
    assert written.isascii()
    assert all(0x20 <= ord(character) < 0x7F for character in written)
    assert json.loads(written)


def test_a_record_has_its_level_logger_time_and_request_id():
    token = request_id.set("abc-12345678")
    try:
        record = json.loads(line("hello %d", 3, workflow="w"))
    finally:
        request_id.reset(token)
    assert record["message"] == "hello 3"
    assert record["level"] == "warning"
    assert record["logger"] == "some.logger"
    assert record["request_id"] == "abc-12345678"
    assert record["workflow"] == "w"
    assert record["time"].endswith("Z")


def test_an_exception_is_a_field_without_local_variables():
    def fails(password):
        raise ValueError("broken")

    secret = "-".join(["hunter2", "secret"])
    try:
        fails(secret)
    except ValueError:
        record = json.loads(line("failed", exc_info=sys.exc_info()))
    assert "ValueError: broken" in record["exception"]
    assert "hunter2-secret" not in json.dumps(record)


@pytest.mark.parametrize("bad", [object(), float("nan"), {1, 2}, b"\xff"])
def test_no_value_costs_the_record(bad):
    assert "value" in line("x", value=bad)


def test_arguments_that_do_not_fit_do_not_cost_the_record():
    assert "logging_error" in json.loads(line("%d items", "three"))
