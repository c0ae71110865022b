"""`make test`: every test on SQLite, the integration tests again on a private PostgreSQL, and what could not be run.

With CI=true whatever a test needs must be there: an absent server is a failure.
"""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support import postgres  # noqa: E402

PROCESSES = str(min(4, os.cpu_count() or 1))


@dataclass
class Run:
    """One part of the suite: what pytest printed at its end, and its status."""

    name: str
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    status: int = 0


def pytest(name: str, arguments: list[str], **environment: str) -> Run:
    """Run pytest, show what it prints, and keep its counts."""
    print(f"\n── {name} ──", flush=True)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-ra", *arguments], cwd=ROOT, env={**os.environ, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    last = ""
    for line in process.stdout or ():
        print(line, end="", flush=True)
        last = line if re.search(r"\d+ (passed|failed|error)", line) else last
    counts = {
        word.rstrip("s"): int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)", last)
    }
    return Run(name, counts, time.monotonic() - began, process.wait())


@contextlib.contextmanager
def private_postgres() -> Iterator[str | None]:
    """A private server's URL; None where PostgreSQL is not installed."""
    try:
        with postgres.running(synced=False) as url:
            yield url
    except postgres.NotInstalled as missing:
        print(f"\nPostgreSQL: {missing}")
        yield None


def main() -> int:
    """Run the parts, then one table of counts and the names of what is missing."""
    chosen = sys.argv[1:]
    if chosen:
        return pytest("chosen", chosen).status
    # In the order of their names, as the long modules are not the last then; pytest's workers would take those with the
    # fewest tests last, which are the longest.
    parallel = ["-n", PROCESSES, "--no-loadscope-reorder", "--dist", "loadfile"]
    runs = [
        pytest("unit and contract", ["tests/unit", "tests/contract", *parallel]),
        pytest("integration on SQLite", ["tests/integration", *parallel], DATABASE_URL=""),
        pytest("hostile requests", ["tests/fuzz", "-n", PROCESSES], DATABASE_URL=""),
    ]
    missing = []
    with private_postgres() as url:
        if url:
            runs.append(pytest("integration on PostgreSQL", ["tests/integration", *parallel], DATABASE_URL=url))
        else:
            missing.append("integration on PostgreSQL")
    runs.append(pytest("end to end, SQLite and PostgreSQL", ["tests/e2e", *parallel]))
    print("\n── all ──")
    for run in runs:
        told = ", ".join(f"{number} {word}" for word, number in run.counts.items()) or "nothing ran"
        print(f"{'ok ' if run.status == 0 else 'BAD'} {run.name:<36} {told:<32} {run.seconds:6.1f} s")
    for name in missing:
        print(f"not run: {name}")
    passed = sum(run.counts.get("passed", 0) for run in runs)
    failed = sum(run.counts.get("failed", 0) + run.counts.get("error", 0) for run in runs)
    skipped = sum(run.counts.get("skipped", 0) for run in runs)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    absent = bool(missing) and os.environ.get("CI") == "true"
    return 1 if absent or failed or any(run.status for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
