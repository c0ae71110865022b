"""A37: the database stops at once under load and comes back; the server is killed. 503 at most, and nothing is lost."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import httpx
import pytest

from tests.e2e.conftest import PATIENCE, ROOT, Installation
from tests.e2e.test_chaos import PATIENT
from tests.e2e.test_make_run import ended, until
from tests.support import postgres

ROUNDS = 3
RECOVERED_WITHIN = 10.0  # seconds
STEPS = [
    {"id": "a", "python": {"call": "builtin.sleep", "with": {"seconds": 0.2}}, "retry": PATIENT},
    {"id": "b", "python": "builtin.noop", "depends_on": ["a"], "retry": PATIENT},
]


class Caller(threading.Thread):
    """Starts executions all the time, and writes down every answer with its moment."""

    def __init__(self, client, path="/workflows/restart/execute"):
        super().__init__(daemon=True)
        self.client, self.path = client, path
        self.acknowledged, self.answers = [], []
        self._ending = threading.Event()

    def run(self):
        while not self._ending.wait(0.1):
            try:
                answer = self.client.post(self.path, json={})
            except httpx.HTTPError as error:
                self.answers.append((time.monotonic(), type(error).__name__))
                continue
            self.answers.append((time.monotonic(), answer.status_code))
            if answer.status_code == 202:
                self.acknowledged.append(answer.json()["execution_id"])

    def end(self):
        self._ending.set()
        self.join(2 * PATIENCE)

    def first_good_since(self, moment):
        return next((at for at, status in self.answers if at > moment and status == 202), None)


def whole(installation):
    done = subprocess.run(
        [sys.executable, "manage.py", "check_invariants"], cwd=ROOT, env=installation.environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 violations" in done.stdout


def all_end_well(client, caller):
    assert len(caller.acknowledged) > 10
    for execution in caller.acknowledged:
        assert ended(client, execution, 120)["status"] == "completed"


@pytest.fixture(scope="module")
def restartable(tmp_path_factory):
    """A PostgreSQL server that may be stopped, and an installation on it."""
    try:
        private = postgres.server()
        server = private.__enter__()
    except postgres.NotInstalled as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    with contextlib.ExitStack() as stack:
        stack.push(private)
        installation = Installation(tmp_path_factory.mktemp("restartable"), server.url).start()
        stack.callback(installation.kill)
        installation.await_whole()
        yield server, installation
        installation.stop()


def test_a37_a_database_that_stops_at_once_costs_503s_and_nothing_else(restartable):
    server, installation = restartable
    client = installation.client()
    assert client.post("/workflows", json={"name": "Restart", "steps": STEPS}).status_code == 201
    caller = Caller(client)
    caller.start()
    recoveries = []
    for _ in range(ROUNDS):
        before = len(caller.acknowledged)
        until(lambda before=before: len(caller.acknowledged) > before + 5)
        server.stop(signal.SIGQUIT)
        time.sleep(1.0)
        server.start()
        back = time.monotonic()
        until(lambda back=back: caller.first_good_since(back))
        recoveries.append(caller.first_good_since(back) - back)
    caller.end()
    statuses = Counter(status for _, status in caller.answers)
    print(f"answers {dict(statuses)}; recovered in {[round(seconds, 2) for seconds in recoveries]} s")
    assert set(statuses) == {202, 503}, statuses
    assert max(recoveries) <= RECOVERED_WITHIN
    all_end_well(client, caller)
    whole(installation)


def test_a37_what_begins_while_the_database_is_away_waits_for_it(restartable):
    server, installation = restartable
    client = installation.client()
    answer = client.post("/workflows", json={"name": "Restart", "steps": STEPS})
    assert answer.status_code in (201, 409)

    def children():
        return {process.pid for process in installation.running("server", "worker")}

    installation.await_whole()
    before = children()
    server.stop(signal.SIGQUIT)
    try:
        for process in installation.running("server", "worker"):
            process.kill()
        until(lambda: len(children() - before) == len(before))
        begun = children()
        until(lambda: answered(client, "/monitoring/health/live") == 200)
        ready = client.get("/monitoring/health/ready")
        assert ready.status_code == 503, ready.text
        assert answered(client, "/workflows") == 503
        time.sleep(2.5)  # longer than a worker tries once
    finally:
        server.start()
    until(lambda: answered(client, "/monitoring/health/ready") == 200)
    started = client.post("/workflows/restart/execute", json={})
    assert started.status_code == 202, started.text
    assert ended(client, started.json()["execution_id"])["status"] == "completed"
    assert children() == begun, "nobody gave up and was started once more"


def answered(client, path):
    try:
        return client.get(path).status_code
    except httpx.HTTPError:
        return None


def test_a37_what_a_killed_server_had_acknowledged_is_there(installation):
    client = installation.client()
    assert client.post("/workflows", json={"name": "Restart", "steps": STEPS}).status_code in (201, 409)
    caller = Caller(client)
    caller.start()
    for _ in range(ROUNDS):
        before = len(caller.acknowledged)
        until(lambda before=before: len(caller.acknowledged) > before + 4)
        (serving,) = until(lambda: installation.running("server"))
        serving.kill()
        killed = time.monotonic()
        until(lambda killed=killed: caller.first_good_since(killed + 0.2))
    caller.end()
    statuses = Counter(status for _, status in caller.answers)
    print(f"answers {dict(statuses)}")
    assert all(status == 202 or isinstance(status, str) for status in statuses), "refused connections, no 5xx"
    all_end_well(client, caller)
    whole(installation)
