"""A whole installation, started as a user would: `make run` in a process group of its own."""

import contextlib
import functools
import os
import signal
import subprocess
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support import postgres
from tests.support.postgres import free_port

ROOT = Path(__file__).resolve().parents[2]
STARTS_WITHIN = 180.0
PATIENCE = 90.0  # seconds; far above what anything here takes on a busy machine
WORKERS = 2
PASSWORD = "correct horse battery"


def users_environment(**values):
    """The environment of somebody at a shell: nothing of this test process's own settings."""
    ours = ("DJANGO_", "PLATFORM_", "DATA_DIR", "LOG_LEVEL", "DAGGER_", "DATABASE_URL", "PYTEST")
    return {**{name: value for name, value in os.environ.items() if not name.startswith(ours)}, **values}


class Installation:
    """`make run` on a free port with a data directory of its own."""

    def __init__(self, directory, url="", **environment):
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.log = directory / "log"
        self.environment = {
            **users_environment(),
            "PORT": str(self.port), "DATA_DIR": str(directory / "data"), "DATABASE_URL": url,
            "ADMIN_PASSWORD": PASSWORD, "WORKERS": str(WORKERS), "LEASE_SECONDS": "5", "LOG_LEVEL": "WARNING",
            "DAGGER_TRACING_ENABLED": "false", "CALLABLE_MODULES": "examples.callables", "CONTAINER_RUNTIME": "none",
            **environment,
        }  # fmt: skip
        self.process = self._asking = None

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["make", "-s", "run"], cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self.await_live()
        return self

    def await_live(self):
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.base}/monitoring/health/live", timeout=10).status_code == 200:
                    return
            time.sleep(0.1)
        raise AssertionError(f"it did not start:\n{self.log.read_text()}")

    def await_whole(self):
        """Until its server runs and its workers are at work: who was killed is started again a moment later."""
        deadline = time.monotonic() + STARTS_WITHIN
        while not self.whole():
            assert time.monotonic() < deadline, f"it is not whole:\n{self.log.read_text()}"
            time.sleep(0.1)

    def whole(self):
        """Whether each worker has said that it lives: a process of that name may still be starting."""
        workers = {process.pid for process in self.running("worker")}
        if len(self.running("server")) != 1 or len(workers) != WORKERS:
            return False
        with contextlib.suppress(httpx.HTTPError, AssertionError):
            self._asking = self._asking or self.client()
            answer = self._asking.get("/workers?limit=1000")
            if answer.status_code == 200:
                names = [row["name"] for row in answer.json()["results"] if row["kind"] == "worker"]
                return workers <= {int(name.split("-")[-2]) for name in names}
        self._asking = None  # its token has expired, or the server or its database is not quite there
        return False

    def processes(self):
        """All of its processes: its process group."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, psutil.Error):
                if os.getpgid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def running(self, *commands):
        """Those of its processes that run one of these commands of `manage.py`; one may end while it is looked at."""
        found = {}
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if set(commands) & set(process.cmdline()):
                    found[process.pid] = process, process.ppid()
        # What one of them has just forked bears its command line until it becomes what it was forked for.
        return [process for process, parent in found.values() if parent not in found]

    def stop(self):
        """SIGTERM to the group, as a service manager does; gives how long it took."""
        began = time.monotonic()
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(60)
        while self.processes() and time.monotonic() - began < 60:
            time.sleep(0.05)
        assert not self.processes(), "nothing is left running"
        return time.monotonic() - began

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)

    def end(self):
        """`stop`, and nothing is left whatever comes of it."""
        if self.process.poll() is None:
            try:
                self.stop()
            finally:
                self.kill()

    def client(self, username="admin", password=PASSWORD):
        """A client with a token, got by form as the seed's curl line does."""
        client = httpx.Client(base_url=self.base, timeout=PATIENCE)
        answer = client.post("/auth/token", data={"username": username, "password": password})
        assert answer.status_code == 200, answer.text
        client.token = answer.json()["access_token"]
        client.headers["Authorization"] = f"Bearer {client.token}"
        return client


@pytest.fixture(scope="session")
def installations(tmp_path_factory):
    """An installation on a database of either kind: started when first asked for, and kept for all files."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def on(kind):
            # SQLite's database is made in the data directory.
            url = "" if kind == "sqlite" else stack.enter_context(postgres.running())
            running = Installation(tmp_path_factory.mktemp(kind), url).start()
            stack.callback(running.end)
            return running

        yield on


@pytest.fixture(params=["sqlite", "postgres"])
def installation(request, installations):
    """Whole, on each database, whatever the test before did to it; what it holds is left from the tests before."""
    try:
        running = installations(request.param)
    except postgres.NotInstalled as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    if running.process.poll() is None:
        running.await_live()
    else:
        running.start()
    running.await_whole()
    return running
