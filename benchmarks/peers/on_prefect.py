"""The shapes on Prefect 3 with a server of its own (SQLite): flows, and tasks submitted to its task runners.

A run is over when the flow returns; the server learns of the tasks later.
"""
# mypy: ignore-errors
# (it runs in an environment of its own, which the type checker does not see)

import os
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import frame
from prefect import flow, task
from prefect.futures import wait
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner


@task
def step(n: int) -> int:
    """Nothing, or work for one core."""
    return frame.fib(n) if n else 0


@flow
def in_sequence(size: int, n: int) -> None:
    """Steps that follow one another."""
    for _ in range(size):
        step(n)


def in_parallel(size: int, n: int) -> None:
    """Submit all, wait for all."""
    wait([step.submit(n) for _ in range(size)])


def independent(size: int, at_once: int) -> None:
    """Flows of three steps, as many at once as there are workers."""
    with ThreadPoolExecutor(at_once) as pool:
        for done in [pool.submit(in_sequence, 3, 0) for _ in range(size)]:
            done.result()


def ready(url: str) -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + frame.START_SECONDS
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=1).close()  # noqa: S310 (our own server)
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    raise SystemExit("the server did not start")


def main() -> None:
    """Measure one shape."""
    asked = frame.asked()
    url = os.environ["PREFECT_API_URL"]
    port = url.removesuffix("/api").rpartition(":")[2]
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    with frame.process(command):
        ready(url)
        match asked.shape:
            case "sequence" | "chain":
                frame.measure(asked, lambda size: in_sequence(size, asked.n))
            case "parallel":
                spread = flow(task_runner=ProcessPoolTaskRunner(max_workers=asked.workers))(in_parallel)
                frame.measure(asked, lambda size: spread(size, asked.n))
            case "fan-out":
                spread = flow(task_runner=ThreadPoolTaskRunner(max_workers=asked.workers))(in_parallel)
                frame.measure(asked, lambda size: spread(size, asked.n))
            case "independent":
                frame.measure(asked, lambda size: independent(size, asked.workers), steps_each=3)


if __name__ == "__main__":
    main()
