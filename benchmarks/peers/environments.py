"""A virtual environment for each peer, made once and kept: under `DATA_DIR`, or in the temporary directory."""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

INSTALL_SECONDS = 900


class MissingError(Exception):
    """A peer cannot be measured here; says what is missing."""


def python_for(requirements: tuple[str, ...]) -> Path:
    """The Python of an environment with these packages. Raises `MissingError`."""
    home = Path(os.environ.get("DATA_DIR") or Path(tempfile.gettempdir()) / "platform-bench") / "peers"
    key = hashlib.sha256(" ".join((sys.version, *requirements)).encode()).hexdigest()[:8]
    directory = home / f"{name_of(requirements)}-{key}"
    python, done = directory / "bin" / "python", directory / "installed"
    if not done.exists():
        sys.stderr.write(f"  installing {' '.join(requirements)}\n")
        _run([sys.executable, "-m", "venv", "--clear", str(directory)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements])
        done.touch()
    return python.absolute()


def version_of(python: Path, requirements: tuple[str, ...]) -> str:
    """The first package and the version that is installed."""
    name = name_of(requirements)
    told = f"import importlib.metadata as m; print(m.version({name!r}))"
    done = subprocess.run([str(python), "-c", told], capture_output=True, text=True, check=True)
    return f"{name} {done.stdout.strip()}"


def name_of(requirements: tuple[str, ...]) -> str:
    """The name of the first package, without what is asked of its version."""
    return re.split(r"[^\w-]", requirements[0])[0]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise MissingError(f"its installation did not finish in {INSTALL_SECONDS} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise MissingError(f"it could not be installed: {lines[-1] if lines else 'pip gave no reason'}")
