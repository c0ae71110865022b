"""The shapes on DBOS: steps of a durable workflow; what is to run in parallel goes through a durable queue."""
# mypy: ignore-errors
# (it runs in an environment of its own, which the type checker does not see)

import os
import threading
import uuid

import frame
from dbos import DBOS

QUEUE = "bench"
POLL_SECONDS = 0.05  # its default of 1 s would be most of what is measured


@DBOS.step()
def step(n: int) -> int:
    """Nothing, or work for one core."""
    return frame.fib(n) if n else 0


@DBOS.workflow()
def in_sequence(size: int, n: int) -> None:
    """Steps that follow one another."""
    for _ in range(size):
        step(n)


@DBOS.workflow()
def one(n: int) -> int:
    """An item of what runs in parallel."""
    return step(n)


@DBOS.workflow()
def in_parallel(size: int, n: int) -> None:
    """Enqueue all, wait for all, as its guide does."""
    for handle in [DBOS.enqueue_workflow(QUEUE, one, n) for _ in range(size)]:
        handle.get_result(polling_interval_sec=POLL_SECONDS)


def main() -> None:
    """Measure one shape, or be a worker of the queue."""
    asked = frame.asked()
    DBOS(config={
        "name": "bench", "system_database_url": os.environ["BENCH_URL"], "log_level": "ERROR",
        "executor_id": uuid.uuid4().hex, "application_version": "1",
    })  # fmt: skip
    parallel = asked.shape in ("parallel", "fan-out")
    if asked.role == "driver" and parallel:
        DBOS.listen_queues([])  # its workers perform
    DBOS.launch()
    if asked.role == "worker":
        threading.Event().wait()
    DBOS.register_queue(
        QUEUE, polling_interval_sec=POLL_SECONDS, worker_concurrency=1 if asked.shape == "parallel" else None
    )

    def wait_for(workflow, size):
        DBOS.start_workflow(workflow, size, asked.n).get_result(polling_interval_sec=POLL_SECONDS)

    def independent(size):
        for handle in [DBOS.start_workflow(in_sequence, 3, asked.n) for _ in range(size)]:
            handle.get_result(polling_interval_sec=POLL_SECONDS)

    match asked.shape:
        case "sequence" | "chain":
            frame.measure(asked, lambda size: wait_for(in_sequence, size))
        case "parallel" | "fan-out":
            with frame.workers(asked):
                frame.measure(asked, lambda size: wait_for(in_parallel, size))
        case "independent":
            frame.measure(asked, independent, steps_each=3)
    DBOS.destroy()


if __name__ == "__main__":
    main()
