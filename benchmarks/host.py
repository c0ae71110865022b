"""A private installation to measure: the environment of its processes, and `manage.py serve` under it."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support import postgres

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0


def environment(directory: str, url: str) -> dict[str, str]:
    """As `make run` has it, with its data in `directory`; nothing of the caller's own installation is used.

    Spans go nowhere, as there is no collector; reading is open, so that the pages can be asked for.
    """
    ours = {
        "DATA_DIR": directory, "DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "orchestration.settings.dev",
        "DAGGER_TRACING_ENABLED": "false", "ANONYMOUS_ROLE": "guest", "RATE_LIMIT_ENABLED": "false",
        "PORT": str(postgres.free_port()), "REDIS_URL": "", "LOG_LEVEL": "", "SLOTS": "", "LEASE_SECONDS": "",
        "CALLABLE_MODULES": "",
    }  # fmt: skip
    return {**os.environ, **ours}


@dataclass(slots=True)
class Installation:
    """Its processes, found below the supervisor."""

    supervisor: psutil.Process
    url: str

    def processes(self, role: str) -> list[psutil.Process]:
        """The server, or the workers."""
        return [child for child in self.supervisor.children() if role in child.cmdline()]

    def cpu_seconds(self, role: str) -> float:
        """What the processes of a role and their children have used so far."""
        used = 0.0
        for process in self.processes(role):
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    times = one.cpu_times()
                    used += times.user + times.system
        return used

    def megabytes(self, role: str) -> tuple[float, float]:
        """Of the largest process of a role: resident memory, and how much of it is no file's page."""
        sizes = [process.memory_info() for process in self.processes(role)]
        if not sizes:
            return 0.0, 0.0
        return max(size.rss for size in sizes) / 1e6, max(size.rss - size.shared for size in sizes) / 1e6


@contextlib.contextmanager
def running(workers: int) -> Iterator[Installation]:
    """The installation that the environment names, migrated already: server and workers."""
    log = Path(os.environ["DATA_DIR"]) / "serve.log"
    command = [sys.executable, str(ROOT / "manage.py"), "serve", "--workers", str(workers)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        try:
            installation = Installation(psutil.Process(process.pid), f"http://127.0.0.1:{os.environ['PORT']}")
            deadline = time.monotonic() + START_SECONDS
            while len(installation.processes("worker")) < workers or not installation.processes("server"):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"it did not start: {log.read_text()[-2000:]}")
                time.sleep(0.05)
            yield installation
        finally:
            process.terminate()
            process.wait(60)
