"""`python -m benchmarks`: the shapes on SQLite and on a private PostgreSQL, with `--peers` beside other systems.

Then tracing and the estimates, which need no database. Prints the tables; `--write` keeps in docs/benchmarks.md and
docs/estimates.md those that were measured whole: with `--only` the others stay as they are.
"""

import argparse
import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import families, page, tables, tracing
from benchmarks.engine import measured
from benchmarks.estimates import __main__ as estimates
from benchmarks.estimates import tables as estimate_tables
from benchmarks.peers import running as peers
from benchmarks.shapes import ALL, FULL, PUBLIC, QUICK
from tests.support import postgres

ESTIMATE, TRACING = "estimate", "tracing"
WHOLE = {"steps": set(PUBLIC), "peers": set(PUBLIC), "quiet": {"idle", "latency"}}
"""The shapes that a section of several has to tell of."""


def asked() -> argparse.Namespace:
    """What the command line says. Ends the process where it contradicts itself."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    known = (*ALL, *families.MODULES, TRACING, ESTIMATE)
    parser.add_argument("--only", nargs="+", choices=known, metavar="SHAPE", help=f"some of: {', '.join(known)}")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each shape (5)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (2)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--peers", action="store_true", help="beside Celery, DBOS, Procrastinate and Prefect")
    parser.add_argument("--write", action="store_true", help="keep the tables that are whole in the docs")
    options = parser.parse_args()
    if options.write and options.quick:
        parser.error("--write keeps figures that mean something: leave out --quick")
    if options.repeat < 1 or options.workers < 1:
        parser.error("--repeat and --workers must be at least 1")
    return options


def main() -> None:
    """Measure, print, and with --write keep."""
    options = asked()
    if not options.only or set(options.only) - {ESTIMATE, TRACING}:
        _measure(options)
    if not options.only or TRACING in options.only:
        text = tracing.section(tracing.measured(repeat=min(options.repeat, families.MOST), quick=options.quick))
        print(f"\n{text}")
        if options.write:
            page.write({TRACING: text})
    if not options.only or ESTIMATE in options.only:
        told = estimate_tables.whole(estimates.quick() if options.quick else estimates.generated())
        print(f"\n{told}")
        if options.write:
            estimates.write(told)


def _measure(options: argparse.Namespace) -> None:
    """The engine's shapes, and the families beside them."""
    sizes = QUICK if options.quick else FULL
    shapes = [shape for shape in ALL if not options.only or shape in options.only]
    public = [shape for shape in shapes if shape in PUBLIC]
    how: dict[str, Any] = {"repeat": options.repeat, "workers": options.workers}
    wanted = [family for family in families.MODULES if not options.only or family in options.only]
    results: dict[str, Mapping[str, Any]] = {}
    beside: dict[str, dict[str, Mapping[str, Any]]] = {family: {} for family in wanted}
    others: list[peers.Measured] = []
    with contextlib.ExitStack() as stack:
        url = ""
        try:
            url = stack.enter_context(postgres.running(synced=True))
        except postgres.NotInstalled as missing:
            sys.stderr.write(f"PostgreSQL is not measured: {missing}\n")
        for name, database in {"SQLite": "", **({"PostgreSQL": url} if url else {})}.items():
            sys.stderr.write(f"this platform, {name}\n")
            if shapes:
                results[name] = measured(database, shapes, quick=options.quick, **how)
            for family in wanted:
                sys.stderr.write(f"  {family}\n")
                beside[family][name] = families.measured(family, database, repeat=options.repeat, quick=options.quick)
        if options.peers and public:
            others += peers.measured(public, sizes, postgres_url=url, **how)
    sections = _sections(results, others, shapes, quick=options.quick)
    sections |= {family: families.section(family, found) for family, found in beside.items()}
    print("\n\n".join(sections.values()))
    if options.write:
        page.write({name: text for name, text in sections.items() if WHOLE.get(name, set()) <= set(shapes)})


def _sections(
    results: tables.Results, others: Sequence[peers.Measured], shapes: Sequence[str], *, quick: bool
) -> dict[str, str]:
    """The page's sections for which something was measured."""
    sizes = QUICK if quick else FULL
    wanted = set(shapes)
    sections = {"machine": tables.machine(results)}
    if wanted & set(PUBLIC):
        sections["steps"] = tables.steps(results, sizes)
    if "parallel" in wanted:
        sections["parallel"] = tables.parallel(results, sizes)
    if "large" in wanted:
        sections["large"] = tables.large(results)
    if "profile" in wanted:
        sections["profile"] = tables.profile(results, sizes)
    if "scrape" in wanted:
        sections["scrape"] = tables.scrape(results)
    if wanted & {"idle", "latency"}:
        sections["quiet"] = tables.quiet(results, sizes)
    if others:
        versions = list(dict.fromkeys(one.version for one in others))
        public = [shape for shape in shapes if shape in PUBLIC]
        sections["peers"] = f"{tables.machine(results, versions)}\n\n{tables.peers(results, others, sizes, public)}"
    return sections


if __name__ == "__main__":
    main()
