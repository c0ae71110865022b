"""`make plant`: plants five bugs of the kind that loses work, one by one, and shows which tests notice.

Each is planted in a copy of the tree under the system's temporary directory. Ends 1 where one is not noticed, 2 where
one can no longer be planted: then the code has moved on, and the bug is to be put where it would be made today.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREE = ("apps", "orchestration", "scripts", "templates", "static", "tests", "examples", "manage.py", "pyproject.toml")
FAULTS = "tests/integration/faults"
LEDGER = "tests/integration/workflows/test_ledger.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """What is replaced by what in `path`, and where it should be noticed; with `postgres`, on that database alone."""

    name: str
    path: str
    find: str
    put: str
    tests: Sequence[str]
    only: str = ""
    postgres: bool = False


BUGS = (
    Bug(
        name="unfenced heartbeat",
        path="apps/workflows/services/leases.py",
        find=r'" WHERE id = %s AND fence = %s AND status = \'in_progress\' AND lease_owner = %s",\n'
        r"(\s+)\[sql\.time_in\(until\), sql\.uuid_in\(task\), fence, owner\],",
        put=r'" WHERE id = %s AND status = \'in_progress\'",\n\1[sql.time_in(until), sql.uuid_in(task)],',
        tests=(LEDGER, f"{FAULTS}/test_model.py"),
    ),
    Bug(
        name="publish before commit",
        path="apps/workflows/signals.py",
        find=r"^    transaction\.on_commit\(send\)$",
        put="    send()",
        tests=(f"{FAULTS}/test_announcing.py",),
    ),
    Bug(
        name="count-then-start fan-in",
        path="apps/workflows/engine/decide/opening.py",
        find=r"^        if not told\.waiting_on:\n            open_task\(changes, spec, told\)$",
        put="        if before.waiting_on <= len(spec.depends_on) - len(spec.depends_on) // 2:\n"
        "            open_task(changes, spec, told)",
        tests=(f"{FAULTS}/test_crash_at_commit.py", LEDGER),
        only="diamond",
    ),
    Bug(
        name="wall clock on the worker",
        path="apps/core/clock.py",
        find=r"^    told, at = _reading\n    passed = time\.monotonic\(\) - at\n    return [^\n]+$",
        put="    return datetime.now(UTC)",
        tests=(f"{FAULTS}/test_crash_at_commit.py",),
        only="retry",
        postgres=True,
    ),
    Bug(
        name="missing savepoint",
        path="apps/workflows/services/requests.py",
        find=r"^            with transaction\.atomic\(\):\n                (IdempotencyKey\.objects\.create\([^\n]+)$",
        put=r"            \1",
        tests=("tests/integration/workflows/test_idempotency.py",),
        postgres=True,
    ),
)


def plant(bug: Bug, tree: Path) -> None:
    """Put it in. Ends the process where that is no longer possible."""
    place = tree / bug.path
    source = place.read_text(encoding="utf-8")
    fresh, count = re.subn(bug.find, bug.put, source, flags=re.MULTILINE)
    if count != 1:
        print(f"{bug.name}: {bug.path} has {count} places for it; put it where it would be made today")
        sys.exit(2)
    place.write_text(fresh, encoding="utf-8")


def failing(bug: Bug, tree: Path, url: str) -> list[str]:
    """The tests that fail."""
    command = [sys.executable, "-m", "pytest", *bug.tests, "-q", "-n", "0", "-p", "no:cacheprovider", "--maxfail=3"]
    done = subprocess.run(
        [*command, *(["-k", bug.only] if bug.only else [])],
        cwd=tree, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "DATABASE_URL": url if bug.postgres else ""},
    )  # fmt: skip
    return re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)


def main() -> int:
    """Plant each, say which tests noticed."""
    parser = argparse.ArgumentParser(prog="python scripts/plant.py")
    parser.add_argument("names", nargs="*", help="only these (default: all five)")
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from tests.support import postgres

    unnoticed = 0
    with postgres.running(synced=False) as url, tempfile.TemporaryDirectory(prefix="platform-plant-") as directory:
        for bug in BUGS:
            if given.names and bug.name not in given.names:
                continue
            tree = Path(directory) / bug.name.replace(" ", "-")
            for name in TREE:
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    tree.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(ROOT / name, tree / name)
            began = time.monotonic()
            # The control: without it, and with all else alike, the same tests pass.
            before = failing(bug, tree, url)
            plant(bug, tree)
            noticed = [] if before else failing(bug, tree, url)
            unnoticed += not noticed
            verdict = "noticed" if noticed else "fails without it" if before else "NOT NOTICED"
            print(f"{bug.name} ({bug.path}): {verdict}, {time.monotonic() - began:.0f} s", flush=True)
            for test in noticed or before:
                print(f"  {test}", flush=True)
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
