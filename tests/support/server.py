"""Server processes of one installation as an operator runs them in production: real daphne, without workers."""

import atexit
import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.support.postgres import free_port

ROOT = Path(__file__).resolve().parents[2]
STARTS_WITHIN = 180.0
PASSWORD = "correct horse battery"
KEYS = {
    "SECRET_KEY": "s3cret-" + "abcdefghij0123456789" * 2,
    "JWT_SIGNING_KEY": "s1gning-" + "0123456789abcdefghij" * 2,
}


def environment(directory: Path, **values: str) -> dict[str, str]:
    """Of an operator: safe production settings, and nothing of this test process's own."""
    return {
        "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "DATA_DIR": str(directory),
        "DJANGO_SETTINGS_MODULE": "orchestration.settings.prod", "ALLOWED_HOSTS": "127.0.0.1,localhost", **KEYS,
        "DAGGER_TRACING_ENABLED": "false", "LOG_LEVEL": "INFO", **values,
    }  # fmt: skip


def manage(directory: Path, *command: str, **values: str) -> subprocess.CompletedProcess[str]:
    """`manage.py COMMAND` there; its status and output are the caller's to look at."""
    return subprocess.run(
        [sys.executable, "manage.py", *command], cwd=ROOT, env=environment(directory, **values), text=True,
        capture_output=True, check=False,
    )  # fmt: skip


@functools.cache
def _migrated() -> Path:
    """An SQLite database with every table and nothing else, made once by each test process."""
    directory = Path(tempfile.mkdtemp(prefix="platform-migrated-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    done = manage(directory, "migrate", "--verbosity", "0")
    assert done.returncode == 0, done.stderr
    return directory / "platform.sqlite3"


def prepare_sqlite(directory: Path) -> None:
    """What `migrate` does in an empty `DATA_DIR`, by a copy."""
    shutil.copy(_migrated(), directory)


class Servers:
    """So many server processes over one database, each on a port of its own."""

    def __init__(self, directory: Path, processes: int = 1, **values: str) -> None:
        self.directory, self.values = directory, values
        self.ports = [free_port() for _ in range(processes)]
        self.bases = [f"http://127.0.0.1:{port}" for port in self.ports]
        self.log = directory / "log"
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Servers":
        if self.values.get("DATABASE_URL"):
            done = manage(self.directory, "migrate", "--verbosity", "0", **self.values)
            assert done.returncode == 0, done.stderr
        else:
            prepare_sqlite(self.directory)
        made = manage(self.directory, "create_admin", **{"ADMIN_PASSWORD": PASSWORD, **self.values})
        assert made.returncode == 0, made.stderr
        self.said = made.stdout
        with self.log.open("ab") as log:
            for port in self.ports:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "manage.py", "server", "--port", str(port)],
                        cwd=ROOT,
                        stdout=log,
                        stderr=log,
                        env=environment(self.directory, **self.values),
                    )
                )
        deadline = time.monotonic() + STARTS_WITHIN
        for base, process in zip(self.bases, self.processes, strict=True):
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{base}/monitoring/health/live", timeout=10).status_code == 200:
                        break
                if process.poll() is not None or time.monotonic() > deadline:
                    self.__exit__()
                    raise AssertionError(f"it did not start:\n{self.log.read_text()}")
                time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def token(self, username: str = "admin", password: str = PASSWORD) -> str:
        """An access token of a new login."""
        answer = httpx.post(
            f"{self.bases[0]}/auth/token", json={"username": username, "password": password}, timeout=90
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])
