"""The shapes on one database, given by the environment, in a process of its own. Its last line is JSON by shape.

Parts that take long are repeated less: `idle` and `latency` at most three times, `large` and `profile` once.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import django

from benchmarks.host import ROOT, Installation, environment, running
from benchmarks.shapes import FULL, QUICK, Sizes

MOST_OF_LONG = 3


def measured(url: str, shapes: Sequence[str], *, repeat: int, workers: int, quick: bool) -> dict[str, Any]:
    """What `python -m benchmarks.engine` prints for a database, in a directory that is gone afterwards."""
    options = ["--repeat", str(repeat), "--workers", str(workers), *(["--quick"] if quick else [])]
    with tempfile.TemporaryDirectory(prefix="platform-bench-") as directory:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.engine", *options, *shapes],
            cwd=ROOT, env=environment(directory, url), stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(shapes: Sequence[str], sizes: Sizes, *, repeat: int, workers: int) -> dict[str, Any]:
    """The figures by shape, and what a commit costs here."""
    from django.core.management import call_command

    from benchmarks import around, hot_path, limits

    call_command("migrate", verbosity=0)
    found: dict[str, Any] = {"commit": limits.commits(sizes), "version": limits.version()}
    if "profile" in shapes:  # before there are workers, which would take its tasks
        sys.stderr.write("  profile\n")
        found["profile"] = hot_path.measure(sizes)
        found["around"] = around.measure(sizes, repeat=repeat)
    with running(workers) as installation:
        for shape in (shape for shape in shapes if shape != "profile"):
            sys.stderr.write(f"  {shape}\n")
            found[shape] = _one(shape, installation, sizes, repeat=repeat)
    return found


def _one(shape: str, installation: Installation, sizes: Sizes, *, repeat: int) -> Any:
    from benchmarks import large, quiet, scrape, steps

    few = range(min(repeat, MOST_OF_LONG))
    match shape:
        case "parallel":
            return steps.beside_plain(sizes, repeat=repeat, processes=os.cpu_count() or 1)
        case "idle":
            return [quiet.idle(installation, sizes) for _ in few]
        case "latency":
            return [quiet.latency(sizes) for _ in few]
        case "scrape":
            return scrape.measure(sizes)
        case "large":
            return large.measure(installation, sizes)
        case _:
            return steps.measure(shape, sizes, repeat=repeat)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("shapes", nargs="*")
    options = parser.parse_args()
    django.setup()
    sizes = QUICK if options.quick else FULL
    print(json.dumps(run(options.shapes, sizes, repeat=options.repeat, workers=options.workers)))


if __name__ == "__main__":
    main()
