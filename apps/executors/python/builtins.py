"""The callables that every installation has: for examples, smoke tests and benchmarks.

Imported by child processes for `fib`: asyncio is loaded only by the coroutines that sleep.
"""

from typing import Any

from apps.executors.failure import StepFailed
from apps.executors.python.context import Context


async def noop() -> dict[str, Any]:
    """Do nothing. The executor answers it without coming here; it is listed for its name and signature."""
    return {}


async def echo(**given: Any) -> dict[str, Any]:
    """Return what it was given."""
    return given


async def sleep(seconds: float) -> dict[str, Any]:
    """Wait without occupying a process."""
    import asyncio

    await asyncio.sleep(_seconds(seconds))
    return {}


async def fail(context: Context, times: int = 1, message: str = "failed as asked") -> dict[str, Any]:
    """Fail the first `times` attempts, then return the number of the one that did not."""
    if isinstance(times, bool) or not isinstance(times, int):
        raise StepFailed(f"times is {times!r}: give a whole number", type="invalid")
    if context.attempt <= times:
        raise StepFailed(str(message), retryable=True)
    return {"attempt": context.attempt}


def fib(n: int) -> dict[str, Any]:
    """The n-th Fibonacci number by plain recursion: honest work for one core, 0 to 60."""
    if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n <= 60:
        raise StepFailed(f"n is {n!r}: give a whole number from 0 to 60", type="invalid")
    return {"result": _fib(n)}


async def progress(context: Context, steps: int = 10, seconds: float = 1.0) -> dict[str, Any]:
    """Report progress `steps` times, evenly over `seconds`."""
    import asyncio

    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= 10_000:
        raise StepFailed(f"steps is {steps!r}: give a whole number from 1 to 10000", type="invalid")
    pause = _seconds(seconds) / steps
    for step in range(1, steps + 1):
        await asyncio.sleep(pause)
        context.progress(100 * step / steps, f"{step} of {steps}")
    return {"steps": steps}


def _fib(n: int) -> int:
    return n if n < 2 else _fib(n - 1) + _fib(n - 2)


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 10_000_000:
        raise StepFailed(f"seconds is {value!r}: give a number from 0 to 10000000", type="invalid")
    return float(value)
