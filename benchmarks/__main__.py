"""`python -m benchmarks`: runs each shape on SQLite and on a private PostgreSQL, and prints (and keeps) the table."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support import postgres

ROOT = Path(__file__).resolve().parent.parent


def measure(name: str, url: str, *, repeat: int, workers: int) -> dict[str, Any]:
    """One database: the shapes, each `repeat` times, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="platform-bench-") as directory:
        environment = {
            **os.environ, "DATABASE_URL": url, "DATA_DIR": directory, "DAGGER_TRACING_ENABLED": "false",
            "LOG_LEVEL": "WARNING", "DJANGO_SETTINGS_MODULE": "orchestration.settings.dev",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.engine", "--repeat", str(repeat), "--workers", str(workers)],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    return {"database": name, **json.loads(done.stdout.splitlines()[-1])}


def table(results: list[dict[str, Any]]) -> str:
    """The results as Markdown: milliseconds a step (median, least to most) and steps a second."""
    lines = ["| shape | database | ms a step, median (least to most) | steps a second |", "|---|---|---|---|"]
    for result in results:
        for shape, figures in result["shapes"].items():
            per_step = sorted(figures)
            middle = per_step[len(per_step) // 2]
            lines.append(
                f"| {shape} | {result['database']} | {middle:.2f} ({per_step[0]:.2f} to {per_step[-1]:.2f}) "
                f"| {1000 / middle:,.0f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and with --write keep the table under docs/."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="keep the table as docs/benchmarks.md")
    options = parser.parse_args()
    results = [measure("SQLite", "", repeat=options.repeat, workers=options.workers)]
    try:
        with postgres.running(synced=True) as url:
            results.append(measure("PostgreSQL", url, repeat=options.repeat, workers=options.workers))
    except postgres.NotInstalled as missing:
        print(f"PostgreSQL was not measured: {missing}", file=sys.stderr)
    text = table(results)
    print(text)
    if options.write:
        (ROOT / "docs" / "benchmarks.md").write_text(
            "# What a step costs\n\n"
            "Made by `make bench` (`python -m benchmarks --write`). Durable: every step is committed (synced) with\n"
            "its journal, leases and logs. From the moment an execution is created to the moment it has ended, by the\n"
            f"database's clock, divided by its steps; {options.workers} worker processes,\n"
            f"median of {options.repeat} runs with the least and the most.\n"
            f"Machine: {os.cpu_count()} cores, Python {platform.python_version()}.\n\n{text}\n\n"
            "Only ratios taken in one run compare: absolute figures drift from machine to machine.\n"
        )


if __name__ == "__main__":
    main()
