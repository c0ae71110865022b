"""Two families beside the engine's shapes, `fanout` and `requests`: measured on each database, and their tables."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import median
from typing import Any

from benchmarks.host import ROOT, environment
from benchmarks.tables import spread, table

MODULES = {"fanout": "benchmarks.live.fanout", "requests": "benchmarks.requests.measure"}
MOST = 3  # runs; each takes long
EVERYTHING_ON = {
    "DAGGER_TRACING_ENABLED": "true", "RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_USER": "100000000/m",
    "ANONYMOUS_ROLE": "",
}  # fmt: skip
TITLES = {"ours": "this platform", "group": "Channels `group_send`, in-memory layer, daphne", "bare": "bare broadcast"}

Found = Mapping[str, Any]


def measured(family: str, url: str, *, repeat: int, quick: bool) -> dict[str, Any]:
    """The figures of a family on one database, with tracing, rate limits and all else as it ships."""
    command = [sys.executable, "-m", MODULES[family], str(min(repeat, MOST)), *(["--quick"] if quick else [])]
    with tempfile.TemporaryDirectory(prefix="platform-bench-") as directory:
        done = subprocess.run(
            command, cwd=ROOT, env={**environment(directory, url), **EVERYTHING_ON}, stdout=subprocess.PIPE, text=True,
            check=True,
        )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def section(family: str, results: Mapping[str, Found]) -> str:
    """The tables of a family; `results` by database."""
    return _fanout(results) if family == "fanout" else _requests(results)


# --- fan-out ----------------------------------------------------------------------------------------------------------


def _fanout(results: Mapping[str, Found]) -> str:
    rows = []
    for database, found in results.items():
        for kind, title in TITLES.items():
            where = f"{title}, {database}" if kind == "ours" else title
            for sockets, runs in _by_sockets(found[kind]):
                beside = dict(_by_sockets(found["ours"]))[sockets]
                rows.append((
                    str(sockets), str(runs[0]["events"]), where, spread((_rate(run) for run in runs), 0),
                    f"{100 * sum(run['received'] for run in runs) / sum(run['wanted'] for run in runs):.0f} %",
                    spread((run["p50"] for run in runs), 0), spread((run["p99"] for run in runs), 0),
                    "" if kind == "ours" else f"{_middle(beside) / max(_middle(runs), 1e-9):.1f}×",
                ))  # fmt: skip
    head = ("sockets", "events", "server", "delivered a second", "share", "p50, ms", "p99, ms", "ours / this")
    alone = [
        (
            database,
            spread((run["p50"] for run in found["single"]), 1),
            spread((run["p99"] for run in found["single"]), 1),
        )
        for database, found in results.items()
    ]
    return table(head, rows) + "\n\n" + table(("database", "commit to frame, ms: p50", "p99"), alone)


def _by_sockets(runs: Sequence[Found]) -> list[tuple[int, list[Found]]]:
    return [(sockets, list(some)) for sockets, some in groupby(runs, key=lambda run: int(run["sockets"]))]


def _rate(run: Found) -> float:
    return float(run["received"]) / run["seconds"] if run["seconds"] else 0.0


def _middle(runs: Sequence[Found]) -> float:
    return median(_rate(run) for run in runs)


# --- requests ---------------------------------------------------------------------------------------------------------


def _requests(results: Mapping[str, Found]) -> str:
    rows, lists = [], []
    for database, found in results.items():
        for name, title in (("write", "`POST /progress/update`"), ("read", "`GET /progress/{id}`")):
            ours, bare = found[name], found[f"bare {name}"]
            ratios = [a / b for a, b in zip(ours, bare, strict=True)]
            rows.append((title, database, spread(ours, 0), spread(bare, 0), spread(ratios)))
        rows.append(("the same with 1,000 reports each, reports", database, spread(found["array"], 0), "–", "–"))
        lists.append((database, *(f"{took:.0f}" for took in found["lists"].values())))
        titles = list(found["lists"])
    head = ("request", "database", "a second", "bare DRF view", "ours / bare")
    return table(head, rows) + "\n\n" + table(("lists, p95 in ms", *titles), lists)
