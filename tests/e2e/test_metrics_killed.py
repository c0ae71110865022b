"""Counters equal the rows, counted by hand: while workers and servers are killed with -9, after it, and after pruning.

Two servers tell them from one database. At every look the counters of each lie between what the rows said a second
before it was asked and what they say after its answer; at rest they are equal.
"""

import contextlib
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from tests.e2e.conftest import PATIENCE, ROOT
from tests.e2e.test_make_run import until
from tests.support import postgres, redis
from tests.support.server import Servers, environment, manage

PATIENT = {"lost": 50}  # a worker that is slow to say that it lives costs an attempt, and no step
GOOD = {
    "name": "Good",
    "steps": [
        {"id": "a", "python": "builtin.noop", "retry": PATIENT},
        {"id": "b", "depends_on": ["a"], "python": "builtin.noop", "retry": PATIENT},
    ],
}
MIXED = {
    "name": "Mixed",
    "steps": [
        {"id": "slow", "python": {"call": "builtin.sleep", "with": {"seconds": 0.1}}, "retry": PATIENT},
        {"id": "again", "python": {"call": "builtin.fail", "with": {"times": 1}},
         "retry": {"max_attempts": 3, "delay": 0, **PATIENT}},
        {"id": "bad", "depends_on": ["slow"], "python": {"call": "builtin.fail", "with": {"times": 9}},
         "retry": PATIENT},
    ],
}  # fmt: skip
EXECUTIONS = {"good": 30, "mixed": 10}
KILLS = 4
EXECUTIONS_BY = "SELECT w.slug, x.status, COUNT(*) FROM workflows_execution x JOIN workflows_workflow w"
ENDED = " ON w.id = x.workflow_id WHERE x.finished_at IS NOT NULL GROUP BY 1, 2"
TASKS_BY = (
    "SELECT w.slug, t.step_id, t.status, COUNT(*), SUM(t.failures + t.losses"
    " - CASE WHEN t.status IN ('failed', 'timed_out') THEN 1 ELSE 0 END) FROM workflows_task t"
    " JOIN workflows_execution x ON x.id = t.execution_id JOIN workflows_workflow w ON w.id = x.workflow_id"
    " WHERE t.finished_at IS NOT NULL GROUP BY 1, 2, 3"
)


class Rows:
    """The database, read by nothing of the platform's own."""

    def __init__(self, directory, url):
        self._path, self._url = directory / "platform.sqlite3", url

    def ask(self, sql, *, commit=False):
        connected = psycopg.connect(self._url) if self._url else sqlite3.connect(self._path, timeout=PATIENCE)
        with contextlib.closing(connected) as connection:
            cursor = connection.execute(sql)
            if commit:
                connection.commit()
                return []
            return cursor.fetchall()

    def counted(self):
        """Ended executions and steps by labels, and retries of ended steps."""
        found = Counter()
        for slug, status, number in self.ask(EXECUTIONS_BY + ENDED):
            found["executions", slug, status] = number
        for slug, step, status, number, retries in self.ask(TASKS_BY):
            found["steps", slug, step, status] = number
            found["retries", slug, step] += int(retries)
        return found


class World:
    """Two servers and two workers, any of which may be killed at any time and is started again."""

    def __init__(self, directory, url, shared):
        self.values = {"DATABASE_URL": url, "LEASE_SECONDS": "2.5", "RATE_LIMIT_ENABLED": "false", "REDIS_URL": shared,
                       "SERVER_PROCESSES": "2"}  # fmt: skip
        self.directory, self.rows = directory, Rows(directory, url)
        self.servers = Servers(directory, processes=2, **self.values)
        self.workers = []

    def __enter__(self):
        self.servers.__enter__()
        self.workers = [self._worker() for _ in range(2)]
        self.headers = {"Authorization": f"Bearer {self.servers.token()}"}
        return self

    def __exit__(self, *_):
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.servers.__exit__()

    def _started(self, *command):
        with self.servers.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "manage.py", *command], cwd=ROOT, stdout=log, stderr=log,
                env=environment(self.directory, **self.values),
            )  # fmt: skip

    def _worker(self):
        return self._started("worker", "--slots", "4")

    def kill(self, chance):
        """-9, of a worker mostly, and its successor at once."""
        place = chance.randrange(2)
        if chance.random() < 0.7:
            self.workers[place].kill()
            self.workers[place].wait()
            self.workers[place] = self._worker()
        else:
            process = self.servers.processes[1]
            process.kill()
            process.wait()
            self.servers.processes[1] = self._started("server", "--port", str(self.servers.ports[1]))

    def execute(self, slug):
        answer = httpx.post(
            f"{self.servers.bases[0]}/workflows/{slug}/execute", json={}, headers=self.headers, timeout=PATIENCE
        )
        assert answer.status_code == 202, answer.text

    def told(self, base):
        """What a server's metrics say, zeros left out; None while it is not there."""
        try:
            answer = httpx.get(f"{base}/monitoring/dagger/metrics", headers=self.headers, timeout=PATIENCE)
        except httpx.TransportError:
            return None
        assert answer.status_code == 200, answer.text
        return counters(answer.text)


def counters(text):
    found = Counter()
    for line in text.splitlines():
        name, _, rest = line.partition("{")
        labels = dict(pair.split("=") for pair in rest.partition("}")[0].replace('"', "").split(",")) if rest else {}
        value = float(line.rpartition(" ")[2]) if rest else 0.0
        own = (labels.get("workflow_id"), labels.get("step_id"), labels.get("status"))
        if value and name == "dagger_workflow_executions_total":
            found["executions", own[0], own[2]] = value
        elif value and name == "dagger_step_executions_total":
            found["steps", *own] = value
        elif value and name == "dagger_step_retries_total":
            found["retries", *own[:2]] = value
    return found


def without_retries(counted):
    return {key: number for key, number in counted.items() if key[0] != "retries"}


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def url(request):
    if request.param == "SQLite":
        yield ""
        return
    with postgres.running(synced=False) as found:
        yield found


def test_counters_equal_the_rows_after_kills_restart_and_pruning(tmp_path, url):
    chance = random.Random(8)
    looks = killed = 0
    with (
        redis.running() as shared,
        World(tmp_path, url, shared) as world,
        ThreadPoolExecutor(1) as pool,
    ):
        for definition in (GOOD, MIXED):
            made = httpx.post(
                f"{world.servers.bases[0]}/workflows", json=definition, headers=world.headers, timeout=PATIENCE
            )
            assert made.status_code == 201, made.text
        slugs = [slug for slug, number in EXECUTIONS.items() for _ in range(number)]
        chance.shuffle(slugs)
        starting = pool.submit(lambda: [world.execute(slug) for slug in slugs])

        def is_over():
            ended = sum(number for key, number in world.rows.counted().items() if key[0] == "executions")
            return ended == len(slugs)

        deadline = time.monotonic() + 400
        while killed < KILLS or not is_over():
            assert time.monotonic() < deadline, world.servers.log.read_text()[-3000:]
            if killed < KILLS:
                world.kill(chance)
                killed += 1
            before = world.rows.counted()
            time.sleep(1.0)  # as old as facts may be
            for base in world.servers.bases:
                if (told := world.told(base)) is None:
                    continue
                after = world.rows.counted()
                looks += 1
                for key, number in without_retries(told).items():
                    assert before[key] <= number <= after[key], (base, key, before[key], number, after[key])
                assert without_retries(before).keys() <= told.keys()
        starting.result()
        truth = world.rows.counted()
        assert truth["executions", "good", "completed"] == EXECUTIONS["good"]
        assert truth["executions", "mixed", "failed"] == EXECUTIONS["mixed"]
        time.sleep(1.0)
        until(lambda: world.told(world.servers.bases[1]) is not None)
        assert [world.told(base) for base in world.servers.bases] == [+truth] * 2

        # Every row old enough is pruned, but the newest twenty that completed; what was counted stays.
        until(lambda: not world.rows.ask("SELECT 1 FROM workflows_execution WHERE NOT counted LIMIT 1"))
        world.rows.ask("UPDATE workflows_execution SET finished_at = '2020-01-01 00:00:00'", commit=True)
        pruned = manage(tmp_path, "prune", **world.values)
        assert pruned.returncode == 0, pruned.stderr
        left = world.rows.counted()
        assert (left["executions", "good", "completed"], left["executions", "mixed", "failed"]) == (20, 0)
        time.sleep(1.0)
        assert [world.told(base) for base in world.servers.bases] == [+truth] * 2
    kept = sum(number for key, number in left.items() if key[0] == "executions")
    print(f"\n  {killed} killed with -9; {looks} scrapes of two servers equal to the rows of their second;")
    print(f"  {sum(truth.values())} counted, the same after {len(slugs) - kept} of {len(slugs)} executions were pruned")
