"""The public shapes on this platform: milliseconds a step, run after run; beside `parallel`, plain Python."""

from benchmarks import plain
from benchmarks.executing import made, seconds_of
from benchmarks.shapes import SINGLE, Sizes, definition


def measure(shape: str, sizes: Sizes, *, repeat: int) -> list[float]:
    """Milliseconds a step of a public shape, one figure a run."""
    count = sizes.count(shape) if shape == "independent" else 1
    workflow = made(definition(shape, sizes))
    seconds_of(made(SINGLE), 4)  # the workers are up
    return [1000 * seconds_of(workflow, count) / sizes.steps(shape) for _ in range(repeat)]


def beside_plain(sizes: Sizes, *, repeat: int, processes: int) -> dict[str, list[float]]:
    """`parallel` here and in plain Python over as many processes, in turn: milliseconds a step of each."""
    workflow = made(definition("parallel", sizes))
    seconds_of(workflow)  # the processes that perform it are up
    alone, ours = [], []
    for once in plain.runs(sizes, repeat=repeat, processes=processes):
        alone.append(once)
        ours.append(1000 * seconds_of(workflow) / sizes.parallel)
    return {"plain": alone, "ours": ours}
