"""What is measured: the shapes, their sizes, and the definitions that give them to this platform."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PUBLIC = ("sequence", "parallel", "chain", "fan-out", "independent")
"""Shapes that every system is given."""
OWN = ("profile", "latency", "idle", "large", "scrape")
ALL = (*PUBLIC, *OWN)
STEPS_OF_INDEPENDENT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large the shapes are. Counts are of steps, or of executions for `independent` and `latency`."""

    sequence: int = 40
    sequence_n: int = 10
    parallel: int = 10
    parallel_n: int = 33
    chain: int = 200
    fan_out: int = 1000
    independent: int = 200
    latency: int = 100
    large: tuple[int, ...] = (1_000, 10_000, 100_000)
    idle_seconds: float = 20.0
    settle_seconds: float = 5.0
    commits: int = 1000
    scrape_workflows: int = 200
    scrape_tasks: int = 1_000_000
    scrape_runs: int = 15
    limit_seconds: float = 110.0
    """How long a shape of a peer may take with all its runs, its own start included."""

    def count(self, shape: str) -> int:
        """The size of a public shape."""
        return int(getattr(self, shape.replace("-", "_")))

    def steps(self, shape: str) -> int:
        """The steps of a public shape."""
        return self.count(shape) * (STEPS_OF_INDEPENDENT if shape == "independent" else 1)

    def n(self, shape: str) -> int:
        """Which Fibonacci number each step computes; 0: it does nothing."""
        return {"sequence": self.sequence_n, "parallel": self.parallel_n}.get(shape, 0)

    def title(self, shape: str) -> str:
        """The shape in words."""
        return {
            "sequence": f"{self.sequence} × fib({self.sequence_n}) in sequence",
            "parallel": f"{self.parallel} × fib({self.parallel_n}) in parallel",
            "chain": f"chain of {self.chain:,} no-ops",
            "fan-out": f"fan-out of {self.fan_out:,} no-ops",
            "independent": f"{self.independent:,} executions of {STEPS_OF_INDEPENDENT} no-ops",
        }[shape]


FULL = Sizes()
QUICK = Sizes(
    sequence=5, parallel=4, parallel_n=22, chain=10, fan_out=20, independent=5, latency=5, large=(300, 600),
    idle_seconds=2.0, settle_seconds=1.0, commits=50, limit_seconds=90.0,
    scrape_workflows=3, scrape_tasks=2_000, scrape_runs=3,
)  # fmt: skip
"""To see that everything runs: its figures mean nothing."""


def definition(shape: str, sizes: Sizes) -> Mapping[str, Any]:
    """The workflow of a public shape."""
    count = STEPS_OF_INDEPENDENT if shape == "independent" else sizes.count(shape)
    n = sizes.n(shape)
    work: dict[str, Any] = {"call": "builtin.fib", "with": {"n": n}} if n else {"call": "builtin.noop"}
    follows = shape in ("sequence", "chain", "independent")
    steps = [
        {"id": f"s{k}", "python": work, **({"depends_on": [f"s{k - 1}"]} if follows and k else {})}
        for k in range(count)
    ]
    return {"name": shape, "steps": steps}


SINGLE: Mapping[str, Any] = {"name": "single", "steps": [{"id": "s", "python": "builtin.noop"}]}
LARGE: Mapping[str, Any] = {
    "name": "large",
    "inputs": {"numbers": {"type": "array"}},
    "steps": [{"id": "s", "for_each": "${inputs.numbers}", "python": "builtin.noop"}],
}
