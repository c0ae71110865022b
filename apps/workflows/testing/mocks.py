"""What takes the place of a step's work in a test: outcomes of attempts, and where a step's next one comes from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from apps.executors.failure import TYPES, StepFailed, describe
from apps.executors.outputs import Unrecordable, checked_outputs

ERROR_TYPES = TYPES | {"workflow"}
MAX_OUTPUT_BYTES = 1 << 20


class HarnessError(AssertionError):
    """The test itself is not right, or the execution goes nowhere; the message names the step and the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One attempt of a task, as a mock that is a function is given it.

    `config` is what the executor would be given, with every `${…}` replaced; `attempt` counts from 1; `item` is None
    outside `for_each`; `inputs` are those of the execution; `now` is the virtual time.
    """

    step_id: str
    kind: str
    config: Mapping[str, Any]
    attempt: int
    item: Any
    inputs: Mapping[str, Any]
    now: datetime

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of a `python` step."""
        return dict(self.config.get("with") or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How attempts end: with `outputs`, with `error`, or `dead` (their performer died), after virtual `seconds`."""

    outputs: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None
    dead: bool = False
    seconds: float = 0.0
    times: int = 1


Function = Callable[[Call], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taking:
    """A mock that is a function, and how long it takes."""

    function: Function
    seconds: float


Mock = Outcome | Taking | Function | Mapping[str, Any]


def returns(outputs: Mapping[str, Any] | None = None, /, **named: Any) -> Outcome:
    """The attempt ends well and leaves these outputs. Raises `HarnessError` for what is no JSON."""
    try:
        return Outcome(outputs=checked_outputs({**(outputs or {}), **named}, MAX_OUTPUT_BYTES))
    except Unrecordable as wrong:
        raise HarnessError(f"returns(…): {wrong}") from None


def fails(
    times: int = 1,
    *,
    type: str = "error",  # noqa: A002 (the word of definitions)
    message: str = "failed by the test",
    exit_code: int | None = None,
    exception: str | None = None,
    retryable: bool = True,
) -> Outcome:
    """The next `times` attempts end badly. `exit_code` is that of a command, `exception` the class that was raised.

    Raises `HarnessError` for a type of error that no executor reports.
    """
    if exit_code is not None and type == "error":
        type = "exit_code"  # noqa: A001
    if type not in ERROR_TYPES:
        raise HarnessError(f"fails(type={type!r}): use one of {', '.join(sorted(ERROR_TYPES))}")
    if times < 1:
        raise HarnessError(f"fails({times}): at least once, or leave it out")
    named = {"exit_code": exit_code, "exception": exception}
    error = {"type": type, "message": message, "retryable": retryable}
    return Outcome(error={**error, **{key: v for key, v in named.items() if v is not None}}, times=times)


def lost(times: int = 1) -> Outcome:
    """The performers of the next `times` attempts die, which is noticed at once: `takes(30, lost())` for later."""
    if times < 1:
        raise HarnessError(f"lost({times}): at least once, or leave it out")
    return Outcome(dead=True, times=times)


def takes(seconds: float, mock: Mock | None = None) -> Outcome | Taking:
    """What `mock` says (without one: it ends well), after so many virtual seconds."""
    if not seconds >= 0:
        raise HarnessError(f"takes({seconds}): seconds cannot be negative")
    match mock:
        case None:
            return Outcome(seconds=seconds)
        case Outcome() | Taking():
            return replace(mock, seconds=seconds)
        case Mapping():
            return replace(returns(mock), seconds=seconds)
    return Taking(function=mock, seconds=seconds)


class Story:
    """The mocks of one step, in their order: each attempt of a task takes the next, the last one goes on for ever."""

    def __init__(self, mocks: Sequence[Mock]) -> None:
        self._mocks = [mock for given in mocks for mock in [given] * (given.times if isinstance(given, Outcome) else 1)]
        self._told: dict[str, int] = {}

    def next(self, call: Call) -> Outcome:
        """How this attempt ends. What a function raises is a failure; an `AssertionError` fails the test."""
        told = self._told.get(call.step_id, 0)
        self._told[call.step_id] = told + 1
        return perform(self._mocks[min(told, len(self._mocks) - 1)], call)


def perform(mock: Any, call: Call) -> Outcome:
    """What `mock` says of this attempt."""
    match mock:
        case Outcome():
            return mock
        case Taking():
            return replace(perform(mock.function, call), seconds=mock.seconds)
        case None | Mapping():
            return Outcome(outputs=mock or {})
    if not callable(mock):
        raise HarnessError(
            f"the mock of `{call.step_id}` gave {mock!r:.100}: give a mapping of outputs, returns(…), fails(…), "
            "lost(), takes(…), or a function of one `Call`"
        )
    try:
        said = mock(call)
    except AssertionError:
        raise
    except StepFailed as failed:
        return fails(type=failed.type, message=failed.message, retryable=failed.retryable)
    except Exception as raised:
        return fails(message=describe(raised), exception=type(raised).__name__)
    if callable(said):
        raise HarnessError(f"the mock of `{call.step_id}` gave another function: give what it returns")
    return perform(said, call)
