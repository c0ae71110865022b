"""How rules are tried: series in promtool's notation, and moments just beside where an alert begins or ends."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Series = dict[str, str]
Phase = tuple[int, int]
"""For so many steps, a counter rises by so much at each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A moment, `at` steps from the beginning of its series, at which the alert fires, or does not.

    `step` is the seconds between two samples.
    """

    what: str
    series: Mapping[str, str]
    at: int
    fires: bool
    step: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Series by selector in promtool's notation, for three situations: all is well; just at the boundary, where the
    alert must not fire; and one in which it must. `step` is the seconds between two samples. Where a rule has more than
    one boundary, `edges` try each by itself.
    """

    series: Mapping[str, tuple[str, str, str]]
    step: int = 60
    edges: tuple[Edge, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A share that is too much, in two windows (in steps) at once."""

    thousandths: int
    long: int
    short: int


def counter(*phases: Phase) -> str:
    """A counter that begins at 0."""
    parts, value = ["0"], 0
    for steps, by in phases:
        if steps:
            parts.append(f"{value + by}+{by}x{steps - 1}")
            value += by * steps
    return " ".join(parts)


def ended(*phases: tuple[int, int, int]) -> Series:
    """Executions that end: (steps, how many at each, of which failed)."""
    name = "dagger_workflow_executions_total"
    return {
        f'{name}{{workflow_id="report", status="failed"}}': counter(*((steps, bad) for steps, _, bad in phases)),
        f'{name}{{workflow_id="report", status="completed"}}': counter(*((n, every - bad) for n, every, bad in phases)),
    }


def began(*phases: tuple[int, int, int]) -> Series:
    """Steps that start: (steps, how many at each, of which later than after 30 s)."""
    name = "dagger_step_queue_duration_seconds"
    within = counter(*((steps, every - late) for steps, every, late in phases))
    return {
        f'{name}_bucket{{queue="default", le="30.0"}}': within,
        f'{name}_count{{queue="default"}}': counter(*((steps, every) for steps, every, _ in phases)),
    }


def lasts(series: str, window: int, *, rise: int = 1) -> tuple[Edge, ...]:
    """An alert on any rise within `window` steps: it fires until the rise has left the window."""
    shown = {series: counter((5, 0), (1, rise), (window + 5, 0))}
    return (
        Edge(what="while it is within the window", series=shown, at=5 + window, fires=True),
        Edge(what="when it has left the window", series=shown, at=6 + window, fires=False),
    )


def too_many(
    series: Callable[..., Series], fast: Arm, slow: Arm, *, wait: int, step: int, exact: bool = True
) -> tuple[Edge, ...]:
    """Of a rule with two arms, each of two windows and at least ten: each boundary by itself. `wait` is in steps.

    `exact`: a share at the boundary is computed without an error of rounding; else one that is a thousandth below.
    """
    calm = (slow.long, 10_000, 0)  # so many that the slow arm notices nothing of what comes after
    pause = (fast.long + 1, 0, 0)
    hold, slack = wait + 1, 0 if exact else 1
    between = (fast.thousandths + slow.thousandths) // 2
    high = min(950, 2 * fast.thousandths)
    edges: list[Edge] = []

    def edge(what: str, fires: bool, *phases: tuple[int, int, int]) -> None:
        at = sum(steps for steps, _, _ in phases)
        edges.append(Edge(what=what, series=series(*phases), at=at, fires=fires, step=step))

    for name, arm, before, above in (("fast", fast, (calm,), high), ("slow", slow, (), between)):
        limit = arm.thousandths - slack
        by = min(3, limit // 9)  # below it most of the time, and as much above it lately: together at it
        low, lately = limit - by, limit + by * (arm.long - arm.short) // arm.short
        edge(f"{name}: just above in both windows", True, *before, (arm.long + hold, 1_000, arm.thousandths + 1))
        edge(
            f"{name}: at the boundary in the long window", False,
            *before, (arm.long - arm.short, 1_000, low), (arm.short, 1_000, lately), (wait, 1_000, low),
        )  # fmt: skip
        edge(
            f"{name}: at the boundary in the short window", False,
            *before, (arm.long, 1_000, above), (arm.short, 1_000, limit),
        )  # fmt: skip
        apart = ((arm.short - 2, 0, 0), (1, 1, 1))
        gap = (pause,) if before else ()
        edge(
            f"{name}: ten, far apart", True, *before, *gap, *apart * (arm.long // (arm.short - 1) + 1), (wait - 1, 0, 0)
        )
    edge(
        "fast: much failed before its long window", False,
        (slow.long - fast.long, 10_000, 8 * slow.thousandths), (fast.long - fast.short, 1_000, 0),
        (fast.short + hold, 1_000, high),
    )  # fmt: skip
    for number, fires in ((9, False), (10, True)):
        edge(f"fast: {number} in all", fires, calm, pause, (1, number, number), (wait, 0, 0))
        edge(f"slow: {number} in all", fires, (1, 0, 0), (1, number, number), (fast.short + hold, 0, 0))
    return tuple(edges)
