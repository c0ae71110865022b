"""The figures as Markdown: medians with the least and the most, and ratios taken within one run."""

import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median, quantiles
from typing import Any

from benchmarks.peers.running import Measured, Outcome
from benchmarks.shapes import PUBLIC, Sizes

Results = Mapping[str, Mapping[str, Any]]
"""By database (`SQLite`, `PostgreSQL`) what `benchmarks.engine` found."""
_OWN = "this platform, "


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def spread(figures: Iterable[float], digits: int = 2) -> str:
    """The median, with the least and the most where there are several."""
    ordered = sorted(figures)
    middle = f"{median(ordered):.{digits}f}"
    return middle if len(ordered) == 1 else f"{middle} ({ordered[0]:.{digits}f} to {ordered[-1]:.{digits}f})"


def figures_of(found: Mapping[str, Any], shape: str) -> list[float]:
    """Milliseconds a step on this platform, run after run."""
    figures: list[float] = found[shape]["ours"] if shape == "parallel" else found[shape]
    return figures


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> str:
    """Median by median; in brackets what the extremes of both would give."""
    least, most = min(theirs) / max(ours), max(theirs) / min(ours)
    return f"{median(theirs) / median(ours):.1f}× ({least:.1f} to {most:.1f})"


# --- sections of the page ---------------------------------------------------------------------------------------------


def machine(results: Results, versions: Iterable[str] = ()) -> str:
    """The machine, the versions, and what a commit costs here."""
    rows = [
        (name, found["version"], spread(found["commit"], 3), f"{1000 / median(found['commit']):,.0f}")
        for name, found in results.items()
    ]
    known = ", ".join(versions)
    return (
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
        f"{f', {known}' if known else ''}.\n\n"
        + table(("database", "version", "synced commit of one row, ms", "commits a second"), rows)
    )


def steps(results: Results, sizes: Sizes) -> str:
    """The public shapes on this platform, each database."""
    rows = []
    for shape in PUBLIC:
        for name, found in results.items():
            if shape in found:
                figures = figures_of(found, shape)
                commits = median(figures) / median(found["commit"])
                rows.append(
                    (sizes.title(shape), name, spread(figures), f"{1000 / median(figures):,.0f}", f"{commits:.1f}")
                )
    return table(("shape", "database", "ms a step", "steps a second", "in commits of one row"), rows)


def parallel(results: Results, sizes: Sizes) -> str:
    """Work for several cores, beside plain Python."""
    rows = [
        (name, spread(found["parallel"]["ours"], 1), spread(found["parallel"]["plain"], 1),
         _ratio_of_pairs(found["parallel"]["ours"], found["parallel"]["plain"]))
        for name, found in results.items() if "parallel" in found
    ]  # fmt: skip
    head = ("database", f"{sizes.title('parallel')}, ms each", "plain Python, ms each", "ours / plain")
    return table(head, rows)


def _ratio_of_pairs(ours: Sequence[float], plain: Sequence[float]) -> str:
    return spread(a / b for a, b in zip(ours, plain, strict=True))


def large(results: Results) -> str:
    """One execution of very many steps."""
    rows = [
        (f"{run['count']:,}", name, *(f"{run[part]:.3f}" for part in ("all", "first", "last")),
         f"{run['last'] / run['first']:.2f}", *(_memory(run, role) for role in ("worker", "server")))
        for name, found in results.items() for run in found.get("large", [])
    ]  # fmt: skip
    head = (
        "items of one step", "database", "ms a step", "of the first tenth", "of the last", "last / first",
        "largest worker, MB (of that private)", "server, MB (of that private)",
    )  # fmt: skip
    return table(head, rows)


def _memory(run: Mapping[str, Any], role: str) -> str:
    resident, own = run["memory"][role]
    return f"{resident:.0f} ({own:.0f})"


def profile(results: Results, sizes: Sizes) -> str:
    """Microseconds a step inside the ledger, part by part, and how far that is from the database's own commits."""
    columns = [(name, shape, parts) for name, found in results.items() for shape, parts in found["profile"].items()]
    names = dict.fromkeys(part for _, _, parts in columns for part in parts)
    by_weight = sorted(names, key=lambda part: -sum(parts.get(part, 0.0) for _, _, parts in columns))
    rows = [(part, *(f"{parts.get(part, 0.0):.0f}" for _, _, parts in columns)) for part in by_weight]
    rows.append(("**all**", *(f"**{sum(parts.values()):.0f}**" for _, _, parts in columns)))
    rows.append((
        "in commits of one row",
        *(f"{sum(parts.values()) / 1000 / median(results[name]['commit']):.2f}" for name, _, parts in columns),
    ))  # fmt: skip
    inside = table(("µs a step", *(f"{sizes.title(shape)}, {name}" for name, shape, _ in columns)), rows)
    return f"{inside}\n\n{_around(results, sizes)}"


def _around(results: Results, sizes: Sizes) -> str:
    """The same step with more and more of an installation around it."""
    alone = {name: sum(found["profile"]["chain"].values()) for name, found in results.items()}
    rows = [("the ledger alone, as above", *(f"{alone[name]:.0f}" for name in results))]
    rows += [
        (arrangement, *(spread(found["around"][arrangement], 0) for found in results.values()))
        for arrangement in next(iter(results.values()))["around"]
    ]
    return table((f"µs a step of the {sizes.title('chain')}", *results), rows)


def quiet(results: Results, sizes: Sizes) -> str:
    """What doing nothing costs, and how soon something begins."""
    rows = []
    for name, found in results.items():
        cells = [name]
        idle = found.get("idle", [])
        for role in ("server", "worker", "database"):
            used = [run[role] for run in idle if role in run]
            cells.append(spread(used) if used else "–")
        runs = found.get("latency", [])
        cells += [spread((_percentile(run, percent) for run in runs), 1) if runs else "–" for percent in (50, 99)]
        rows.append(tuple(cells))
    head = (
        "database", f"idle {sizes.idle_seconds:g} s: server, % of a core", "all workers", "database's own processes",
        f"commit to `task.started`, ms: p50 of {sizes.latency}", "p99",
    )  # fmt: skip
    return table(head, rows)


def scrape(results: Results) -> str:
    """What a scrape costs: with and without what ran long ago, with every total changed, beside prometheus_client."""
    rows = []
    for name, found in results.items():
        one = found["scrape"]
        rows.append((
            name, f"{one['series']:,}", *(spread(one[part], 1) for part in ("before", "after", "changed", "library")),
            ratio(one["library"], one["after"]),
        ))  # fmt: skip
    tasks = next(iter(results.values()))["scrape"]["tasks"]
    head = (
        "database", "series", "ms", f"with {tasks:,} finished tasks, ms", "every total changed, ms",
        "prometheus_client, as many series, ms", "prometheus_client / ours",
    )  # fmt: skip
    return table(head, rows)


def _percentile(figures: Sequence[float], percent: int) -> float:
    return quantiles(figures, n=100, method="inclusive")[percent - 1]


# --- beside the peers -------------------------------------------------------------------------------------------------


def peers(results: Results, found: Sequence[Measured], sizes: Sizes, shapes: Sequence[str]) -> str:
    """Milliseconds a step of every system, then the ratios to this platform on each of its databases."""
    head = ("system", "what survives", *(sizes.title(shape) for shape in shapes))
    rows: list[Sequence[str]] = [
        (_OWN + name, "each step, journal and log", *(spread(figures_of(own, shape)) for shape in shapes))
        for name, own in results.items()
    ]
    rows += [
        (one.peer.name, one.peer.durable, *(_cell(one.shapes[shape], spread) for shape in shapes)) for one in found
    ]
    parts = ["Milliseconds a step:", table(head, rows)]
    for name, own in results.items():
        beside = [
            (one.peer.name, *(_cell(one.shapes[shape], _beside(own, shape)) for shape in shapes)) for one in found
        ]
        parts += [
            f"How many times what this platform on {name} takes:",
            table(("system", *(sizes.title(shape) for shape in shapes)), beside),
        ]
    return "\n\n".join(parts)


def _beside(own: Mapping[str, Any], shape: str) -> Callable[[Sequence[float]], str]:
    return lambda theirs: ratio(theirs, figures_of(own, shape))


def _cell(outcome: Outcome, shown: Callable[[Sequence[float]], str]) -> str:
    if not outcome.figures:
        return outcome.problem.replace("|", "/")
    return shown(outcome.figures) + (f"; {outcome.problem}" if outcome.problem else "")
