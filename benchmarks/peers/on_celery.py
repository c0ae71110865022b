"""The shapes on Celery: canvas primitives, a prefork pool, acknowledged late; broker and results in Redis."""
# mypy: ignore-errors
# (it runs in an environment of its own, which the type checker does not see)

import os
import sys

import frame
from celery import Celery, chain, group

URL = os.environ["BENCH_URL"]
app = Celery("on_celery", broker=URL, backend=URL)
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, broker_connection_retry_on_startup=True)


@app.task
def noop():
    """Do nothing."""


@app.task
def fib(n):
    """Work for one core."""
    return frame.fib(n)


def main():
    """Measure one shape."""
    asked = frame.asked()
    step = fib.si(asked.n) if asked.n else noop.si()

    def in_sequence(size):
        chain(*[step] * size).apply_async().get()

    def in_parallel(size):
        group([step] * size).apply_async().get()

    def independent(size):
        started = [chain(step, step, step).apply_async() for _ in range(size)]
        for result in started:
            result.get()

    command = [sys.executable, "-m", "celery", "-A", "on_celery", "worker", "--concurrency", str(asked.workers)]
    with frame.process([*command, "--loglevel", "ERROR"]):
        noop.delay().get(timeout=frame.START_SECONDS)
        match asked.shape:
            case "sequence" | "chain":
                frame.measure(asked, in_sequence)
            case "parallel" | "fan-out":
                frame.measure(asked, in_parallel)
            case "independent":
                frame.measure(asked, independent, steps_each=3)


if __name__ == "__main__":
    main()
