"""The callables that come with the platform, and how a `python` step is called."""

import asyncio
import time

import pytest

from tests.unit.executors.conftest import step_call


async def test_noop_and_echo(run):
    assert (await run("builtin.noop")).outputs == {}
    given = {"a": [1, None, {"b": "ü"}], "context": "mine"}
    assert (await run("builtin.echo", **given)).outputs == given


async def test_sleep_takes_its_time(run):
    begun = time.monotonic()
    assert (await run("builtin.sleep", seconds=0.05)).error is None
    assert time.monotonic() - begun >= 0.05


async def test_fail_fails_the_first_attempts(run):
    first, second, third = [await run("builtin.fail", times=2, message="not yet", attempt=n) for n in (1, 2, 3)]
    assert first.error.message == second.error.message == "not yet"
    assert first.error.retryable
    assert third.error is None


async def test_fib_is_computed_in_a_child(run):
    assert (await run("builtin.fib", n=15)).outputs == {"result": 610}


async def test_progress_is_reported_evenly(run, sink):
    assert (await run("builtin.progress", steps=4, seconds=0.01)).error is None
    assert [percent for percent, _ in sink.reports] == [25, 50, 75, 100]


@pytest.mark.parametrize(
    ("name", "given", "word"),
    [
        ("builtin.sleep", {}, "seconds"),
        ("builtin.sleep", {"seconds": "long"}, "seconds"),
        ("builtin.sleep", {"seconds": -1}, "seconds"),
        ("builtin.noop", {"colour": 1}, "colour"),
        ("builtin.fib", {"n": 3, "m": 4}, "m"),
        ("builtin.fib", {"n": "x"}, "n"),
        ("builtin.progress", {"steps": 0, "seconds": 1}, "steps"),
        ("crew_reports.total", {"factor": 3}, "item"),
        ("crew_reports.identity", {"context": 3}, "context"),
    ],
)
async def test_wrong_arguments_are_named_and_not_tried_again(run, name, given, word):
    error = (await run(name, **given)).error
    assert error is not None
    assert (error.type, error.retryable) == ("invalid", False)
    assert word in error.message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("crew_broken.anything", "crew_broken could not be imported: RuntimeError: the licence has expired"),
        ("crew_missing.anything", "crew_missing could not be imported"),
        ("builtin.nop", "builtin.noop"),
        ("crew_reports._private", "crew_reports._private"),
        ("os.system", "os.system"),
    ],
)
async def test_what_cannot_be_called_is_said_clearly(run, name, words):
    error = (await run(name)).error
    assert not error.retryable
    assert words in error.message


async def test_a_configuration_that_makes_no_sense(executors, sink):
    for config in ({}, {"call": 3}, {"call": "builtin.echo", "with": [1]}, {"call": "builtin.echo", "colour": 1}):
        call = step_call("builtin.echo", {})
        result = await executors.get("python").run(type(call)(**{**_fields(call), "config": config}), sink)
        assert (result.error.type, result.error.retryable) == ("invalid", False), config


def _fields(call):
    return {name: getattr(call, name) for name in type(call).__slots__}


# -- coroutines run in the loop --------------------------------------------------------------------------------------


async def test_a_coroutine_reports_through_its_context(run, sink):
    assert (await run("crew_reports.patient", seconds=0, attempt=3)).outputs == {"attempt": 3}
    assert sink.text("stdout") == "waiting\n"


async def test_a_coroutine_is_cancelled(run):
    task = asyncio.create_task(run("crew_reports.patient", seconds=100))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("name", ["cancelling_itself", "exiting_in_loop"])
async def test_a_coroutine_cannot_take_the_worker_with_it(run, name):
    error = (await run(f"crew_reports.{name}")).error
    assert error.type == "error"
