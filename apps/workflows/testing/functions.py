"""Callables that a test really performs, at once and under the virtual clock: the built-in ones, and a team's own."""

import inspect
from collections.abc import Callable
from typing import Any

from apps.executors.python import builtins
from apps.executors.python.context import IDENTITY, Context
from apps.workflows.testing.mocks import Call, Function, HarnessError, fails, returns, takes

MOST_SECONDS = 10_000_000  # as the built-in ones allow

_BUILTINS: dict[str, Callable[..., Any]] = {
    f"builtin.{name}": function
    for name, function in vars(builtins).items()
    if inspect.isfunction(function) and function.__module__ == builtins.__name__ and not name.startswith("_")
}
BUILTINS = frozenset(_BUILTINS)


def calls(function: Callable[..., Any]) -> Function:
    """A mock for a `python` step: `function` itself is called with what stands in `with`, and with a `context`.

    What it raises is a failure of the step, as in a worker.
    """
    return lambda call: _called(function, call)


def builtin(call: Call) -> Any:
    """What a built-in callable does. Those that wait only let virtual time pass."""
    function = _BUILTINS[str(call.config.get("call"))]
    arguments = _bound(function, call)
    if not isinstance(arguments, inspect.BoundArguments) or "seconds" not in arguments.arguments:
        return _called(function, call)
    given = arguments.arguments
    seconds = given["seconds"]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MOST_SECONDS:
        message = f"seconds is {seconds!r}: give a number from 0 to {MOST_SECONDS}"
        return fails(type="invalid", message=message, retryable=False)
    return takes(seconds, returns(steps=given["steps"]) if "steps" in given else returns())


def _bound(function: Callable[..., Any], call: Call) -> inspect.BoundArguments | str:
    """How it is called, or why it cannot be."""
    signature, given = inspect.signature(function), call.arguments
    if "context" in signature.parameters:
        given["context"] = _context(call)
    try:
        bound = signature.bind(**given)
    except TypeError as wrong:
        return f"callable {call.config.get('call')!r}: {wrong}"
    bound.apply_defaults()
    return bound


def _called(function: Callable[..., Any], call: Call) -> Any:
    bound = _bound(function, call)
    if isinstance(bound, str):
        return fails(type="invalid", message=bound, retryable=False)
    result = function(*bound.args, **bound.kwargs)
    return _awaited(result, call) if inspect.iscoroutine(result) else result


def _awaited(coroutine: Any, call: Call) -> Any:
    """What a coroutine returns that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    finally:
        coroutine.close()
    raise HarnessError(f"`{call.step_id}` is a coroutine that waits for something real: mock it by what it returns")


def _context(call: Call) -> Context:
    identity = {name: f"{call.step_id}:{name}" for name in IDENTITY}
    return Context(identity, attempt=call.attempt, log=lambda _: None, progress=lambda *_: None)
