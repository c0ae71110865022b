"""`make check`: format, lint, types, and the law of the house; says each verdict and ends 1 if any is bad."""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

TEST_SETTINGS = "--settings=orchestration.settings.test"

CHECKS = {
    "format": ["ruff", "format", "--check", "."],
    "lint": ["ruff", "check", "."],
    "types": ["mypy"],
    "security": ["bandit", "-q", "-r", "-c", "pyproject.toml", "apps", "orchestration", "scripts", "manage.py"],
    "imports": ["lint-imports"],
    "migrations": ["python", "manage.py", "makemigrations", "--check", "--dry-run", TEST_SETTINGS],
    "openapi": ["python", "manage.py", "spectacular", "--validate", "--fail-on-warn", "--file", "/dev/null",
                TEST_SETTINGS],
    "law": ["python", "-m", "pytest", "tests/contract", "-q", "-p", "no:cacheprovider"],
}  # fmt: skip


def main() -> int:
    """Run all, even after a bad one."""
    bad = []
    for name, command in CHECKS.items():
        began = time.monotonic()
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
        )
        print(f"{'ok ' if done.returncode == 0 else 'BAD'} {name:<11} {time.monotonic() - began:5.1f} s", flush=True)
        if done.returncode:
            bad.append(name)
            print(done.stdout[-6000:] + done.stderr[-6000:], flush=True)
    print(f"check: {', '.join(bad)} failed" if bad else "check: all good")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
