"""What the scripts of the peers share. They run under another environment's Python: nothing but the standard library.

A script is told its shape and sizes, finds its database or broker at `BENCH_URL`, and prints a JSON line with the
milliseconds a step after each run.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
START_SECONDS = 60.0
SETTLE_SECONDS = 3.0  # until all of its workers are there


class Asked(argparse.Namespace):
    """One shape: `size` steps (or executions) of fib(`n`), or of nothing."""

    shape: str
    size: int
    n: int
    runs: int
    workers: int
    role: str


def asked() -> Asked:
    """What the command line says. `--role worker` is for a script that starts itself as its own worker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", required=True)
    for name in ("size", "n", "runs", "workers"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--role", default="driver")
    return parser.parse_args(namespace=Asked())


def fib(n: int) -> int:
    """The same work as `builtin.fib`."""
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def measure(asked: Asked, run: Callable[[int], float | None], *, steps_each: int = 1) -> None:
    """Call `run` with the size, first with a small one to warm up; it may give the seconds by a better clock."""
    run(min(asked.size, 2 * asked.workers))
    for _ in range(asked.runs):
        began = time.perf_counter()
        by_its_clock = run(asked.size)
        seconds = time.perf_counter() - began if by_its_clock is None else by_its_clock
        print(json.dumps({"ms": 1000 * seconds / (asked.size * steps_each)}), flush=True)


@contextlib.contextmanager
def process(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A child of the script, ended with it. What it prints goes to standard error."""
    child = subprocess.Popen(command, cwd=HERE, stdout=sys.stderr)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextlib.contextmanager
def workers(asked: Asked) -> Iterator[None]:
    """As many copies of this script as workers are asked for, in the role of workers."""
    command = [sys.executable, str(Path(sys.argv[0]).resolve()), *sys.argv[1:], "--role", "worker"]
    with contextlib.ExitStack() as stack:
        for _ in range(asked.workers):
            stack.enter_context(process(command))
        time.sleep(SETTLE_SECONDS)
        yield
