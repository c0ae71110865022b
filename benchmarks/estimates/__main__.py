"""`python -m benchmarks.estimates`: every estimator on generated workflows, or with `--traces` on recorded ones.

Prints the tables; `--write` keeps those of a whole run in docs/estimates.md. Figures were tuned on the seeds from
5,000 on (`--tuning`), the tables are made with the seeds from 1 on.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.estimates import tables
from benchmarks.estimates.evaluate import Scores, judge, of_kind
from benchmarks.estimates.generator import KINDS
from benchmarks.estimates.wfcommons import SLOTS, NotATraceError, runs_of, workflows

PAGE = Path(__file__).resolve().parents[2] / "docs" / "estimates.md"
BEGIN, END = "<!-- measured: estimate -->\n", "<!-- end: estimate -->"
WORKFLOWS, RUNS, WARM_UP = 16, 28, 10
TUNING, COMMITTED = 5_000, 1


def asked() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimates", description=__doc__)
    parser.add_argument("--workflows", type=int, default=WORKFLOWS, help=f"generated ones of each kind ({WORKFLOWS})")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"of each workflow ({RUNS})")
    parser.add_argument("--warm-up", type=int, default=WARM_UP, help=f"of them only make the past ({WARM_UP})")
    parser.add_argument("--tuning", action="store_true", help="with the seeds that figures were tuned on")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that everything runs")
    parser.add_argument(
        "--traces", type=Path, help="a directory of WfCommons traces (*.json) in place of generated runs"
    )
    parser.add_argument("--slots", type=int, default=SLOTS, help=f"with --traces: how many slots there are ({SLOTS})")
    parser.add_argument("--write", action="store_true", help="keep the tables in docs/estimates.md")
    options = parser.parse_args()
    if options.write and (options.quick or options.tuning or options.traces):
        parser.error("--write keeps whole runs only: leave out --quick, --tuning and --traces")
    if options.warm_up < 1 or options.runs <= options.warm_up:
        parser.error("--warm-up must be at least 1, and --runs more")
    return options


def generated(
    *, workflows: int = WORKFLOWS, runs: int = RUNS, warm_up: int = WARM_UP, tuning: bool = False
) -> dict[str, Scores]:
    """The scores of every kind."""
    first = TUNING if tuning else COMMITTED
    found: dict[str, Scores] = {}
    for kind in KINDS:
        sys.stderr.write(f"estimates: {workflows} workflows whose runs are `{kind}`\n")
        found[kind] = of_kind(kind, range(first, first + workflows), runs=runs, warm_up=warm_up)
    return found


def quick() -> dict[str, Scores]:
    """Tiny, to see that everything runs: its figures mean nothing."""
    return generated(workflows=2, runs=6, warm_up=4)


def recorded(directory: Path, *, slots: int, warm_up: int) -> dict[str, Scores]:
    """The scores of every application with more traces than make the past. Ends the process where there is none."""
    try:
        known = workflows(directory.rglob("*.json"))
        found = {
            name: judge(runs_of(traces, slots), warm_up) for name, traces in known.items() if len(traces) > warm_up
        }
    except NotATraceError as wrong:
        raise SystemExit(f"not a WfCommons trace: {wrong}") from None
    if not found:
        raise SystemExit(f"{directory} holds no application with more than {warm_up} traces: lower --warm-up")
    return found


def write(text: str) -> None:
    """Keep it in the page."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n\n{END}{rest.partition(END)[2]}")


def main() -> None:
    """Measure, print, and with --write keep."""
    options = asked()
    if options.traces:
        found = recorded(options.traces, slots=options.slots, warm_up=options.warm_up)
    elif options.quick:
        found = quick()
    else:
        found = generated(
            workflows=options.workflows, runs=options.runs, warm_up=options.warm_up, tuning=options.tuning
        )
    print(tables.whole(found))
    if options.write:
        write(tables.whole(found))


if __name__ == "__main__":
    main()
