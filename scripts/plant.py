"""`make plant`: plants bugs that lose work and bugs that let somebody in, one by one, and shows which tests notice.

Each is planted in a copy of the tree under the system's temporary directory, and taken out again. Ends 1 where one is
not noticed, 2 where one can no longer be planted: then the code has moved on, and the bug is to be put where it would
be made today.
"""

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bugs import OF_RIGHTS, OF_WORK, Bug

ROOT = Path(__file__).resolve().parent.parent
TREE = ("apps", "orchestration", "scripts", "templates", "static", "tests", "examples", "manage.py", "pyproject.toml")


@contextlib.contextmanager
def planted(bug: Bug, tree: Path) -> Iterator[None]:
    """With it in. Ends the process where that is no longer possible."""
    place = tree / bug.path
    source = place.read_text(encoding="utf-8")
    fresh, count = re.subn(bug.find, bug.put, source, flags=re.MULTILINE)
    if count != 1:
        print(f"{bug.name}: {bug.path} has {count} places for it; put it where it would be made today")
        sys.exit(2)
    place.write_text(fresh, encoding="utf-8")
    try:
        yield
    finally:
        place.write_text(source, encoding="utf-8")


def failing(bug: Bug, tree: Path, url: str) -> list[str]:
    """The tests that fail. On SQLite their database is as the first run of all made it, which had no bug in it."""
    data = tree / "data"
    data.mkdir(exist_ok=True)
    database, kept = data / "test.sqlite3", data / "kept.sqlite3"
    if kept.exists():
        for file in data.glob("test.sqlite3*"):
            file.unlink()
        shutil.copy2(kept, database)
    command = [sys.executable, "-m", "pytest", *bug.tests, "-q", "-n", "0", "-p", "no:cacheprovider", "--maxfail=3"]
    command += [] if bug.postgres else ["--reuse-db"]
    done = subprocess.run(
        [*command, *(["-k", bug.only] if bug.only else [])],
        cwd=tree, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "DATA_DIR": str(data),
             "DATABASE_URL": url if bug.postgres else ""},
    )  # fmt: skip
    if done.returncode == 0 and database.exists() and not kept.exists():
        shutil.copy2(database, kept)
    return re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)


def main() -> int:
    """Plant each, say which tests noticed."""
    parser = argparse.ArgumentParser(prog="python scripts/plant.py")
    parser.add_argument("names", nargs="*", help="only those whose names begin so (default: all)")
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from tests.support import postgres

    chosen = [bug for bug in (*OF_WORK, *OF_RIGHTS) if bug.name.startswith(tuple(given.names or [""]))]
    unnoticed, controls = 0, dict[tuple[str, ...], list[str]]()
    server = postgres.running(synced=False) if any(bug.postgres for bug in chosen) else contextlib.nullcontext("")
    with server as url, tempfile.TemporaryDirectory(prefix="platform-plant-") as directory:
        tree = Path(directory)
        for name in TREE:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / name, tree / name)
        for bug in chosen:
            began = time.monotonic()
            # The control: without it, and with all else alike, the same tests pass.
            which = (*bug.tests, bug.only, str(bug.postgres))
            before = controls[which] = controls[which] if which in controls else failing(bug, tree, url)
            with planted(bug, tree):
                noticed = [] if before else failing(bug, tree, url)
            unnoticed += not noticed
            verdict = "noticed" if noticed else "fails without it" if before else "NOT NOTICED"
            print(f"{bug.name} ({bug.path}): {verdict}, {time.monotonic() - began:.0f} s", flush=True)
            for test in noticed or before:
                print(f"  {test}", flush=True)
    print(f"planted {len(chosen)} bugs: {len(chosen) - unnoticed} noticed")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
