"""The shapes on Procrastinate: each task defers the one that follows it; workers listen, and poll every 0.05 s."""
# mypy: ignore-errors
# (it runs in an environment of its own, which the type checker does not see)

import asyncio
import os

import frame
from procrastinate import App, PsycopgConnector

POLL_SECONDS = 0.05  # its default of 5 s stalls in multiples of itself
AT_ONCE = 16  # coroutines of one worker; its guide asks for 1 where tasks block

_OPEN = "SELECT count(*) AS n FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
_BAD = "SELECT count(*) AS n FROM procrastinate_jobs WHERE status <> 'succeeded'"
_SPAN = "SELECT extract(epoch FROM max(at) - min(at))::float8 AS seconds FROM procrastinate_events"

app = App(connector=PsycopgConnector(conninfo=os.environ["BENCH_URL"]))


@app.task
async def step(left: int, n: int) -> None:
    """Nothing or a little work, and on to the next."""
    if n:
        frame.fib(n)
    if left > 1:
        await step.defer_async(left=left - 1, n=n)


@app.task
def work(n: int) -> None:
    """Work for one core."""
    frame.fib(n)


async def finished() -> float:
    """Wait until all is done; gives the seconds from the first deferral to the last end, by the database's clock."""
    query = app.connector.execute_query_one_async
    while (await query(_OPEN))["n"]:
        await asyncio.sleep(POLL_SECONDS)
    if bad := (await query(_BAD))["n"]:
        raise SystemExit(f"{bad} jobs did not succeed")
    return (await query(_SPAN))["seconds"]


async def run(shape: str, size: int, n: int) -> float:
    """One run of the shape."""
    await app.connector.execute_query_async("TRUNCATE procrastinate_jobs CASCADE")
    match shape:
        case "sequence" | "chain":
            await step.defer_async(left=size, n=n)
        case "parallel":
            await work.batch_defer_async(*[{"n": n}] * size)
        case "fan-out":
            await step.batch_defer_async(*[{"left": 1, "n": 0}] * size)
        case "independent":
            await step.batch_defer_async(*[{"left": 3, "n": 0}] * size)
    return await finished()


async def work_forever(shape: str) -> None:
    """A worker."""
    async with app.open_async():
        await app.run_worker_async(
            concurrency=1 if shape == "parallel" else AT_ONCE, fetch_job_polling_interval=POLL_SECONDS
        )


def main() -> None:
    """Measure one shape, or be a worker."""
    asked = frame.asked()
    if asked.role == "worker":
        asyncio.run(work_forever(asked.shape))
        return
    with asyncio.Runner() as runner:
        runner.run(app.connector.open_async())
        runner.run(app.schema_manager.apply_schema_async())
        with frame.workers(asked):
            steps_each = 3 if asked.shape == "independent" else 1
            frame.measure(asked, lambda size: runner.run(run(asked.shape, size, asked.n)), steps_each=steps_each)
        runner.run(app.close_async())


if __name__ == "__main__":
    main()
