"""The work of `parallel` in plain Python, over as many processes as there are cores: nothing is cheaper."""

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks.shapes import Sizes


def runs(sizes: Sizes, *, repeat: int, processes: int) -> Iterator[float]:
    """Milliseconds a step, one run for each that is asked for; the processes are up before the first."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        list(pool.map(fib, [20] * 4 * processes))
        for _ in range(repeat):
            began = time.perf_counter()
            list(pool.map(fib, [sizes.parallel_n] * sizes.parallel))
            yield 1000 * (time.perf_counter() - began) / sizes.parallel


def fib(n: int) -> int:
    """The same work as `builtin.fib`."""
    return n if n < 2 else fib(n - 1) + fib(n - 2)
