"""A40: the next version comes while this one runs, and goes again: one database, both codes, requests all the time.

The next version is a copy of this tree with what a later version may add to the database (docs/operations.md): columns
that may be empty or that the database fills itself, a table, an index. Its code reads and writes them.
"""

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter

import httpx
import pytest

from tests.support import postgres, redis
from tests.support.postgres import free_port
from tests.support.server import PASSWORD, ROOT, environment

STARTS_WITHIN, PATIENCE = 180.0, 120.0
BESIDE = 8  # executions that were acknowledged in each part
STEPS = [
    {"id": "a", "python": {"call": "builtin.sleep", "with": {"seconds": 0.05}}},
    {"id": "b", "python": "builtin.noop", "depends_on": ["a"]},
]
MIGRATIONS = {
    "9997_later_note": 'migrations.AddField("workflow", "later_note", models.CharField(max_length=50, null=True))',
    "9998_later_count": 'migrations.AddField("task", "later_count", models.IntegerField(db_default=7))',
    "9999_later": """migrations.CreateModel(
        "Later",
        fields=[
            ("id", models.BigAutoField(primary_key=True, serialize=False)),
            ("of", models.UUIDField(db_index=True)),
        ],
    )""",
}
"""One table each: a transaction that locks two could meet a query that reads them in the other order."""


def next_version(directory):
    """A tree whose code knows of more than this one's."""
    for name in ("apps", "orchestration"):
        shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("templates", "static", "examples"):
        (directory / name).symlink_to(ROOT / name)
    shutil.copy2(ROOT / "manage.py", directory)
    models = directory / "apps" / "workflows" / "models"
    for name, place, field in (
        ("workflows.py", "    slug = ", "later_note = models.CharField(max_length=50, null=True, default='new')"),
        ("executions.py", "    fence = ", "later_count = models.IntegerField(db_default=7)"),
    ):
        text = (models / name).read_text()
        assert place in text
        (models / name).write_text(text.replace(place, f"    {field}\n{place}", 1))
    migrations = directory / "apps" / "workflows" / "migrations"
    before = sorted(path.stem for path in migrations.glob("0*.py"))[-1]
    for name, operation in MIGRATIONS.items():
        (migrations / f"{name}.py").write_text(
            f"""from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("workflows", "{before}")]
    operations = [{spoilt(operation)}]
"""
        )
        before = name


def spoilt(operation):
    """What it is, or as one would write it where nothing runs meanwhile: then this test is to fail."""
    return operation.replace("null=True", "default=''") if os.environ.get("ROLLING_PLANT") else operation


class Part:
    """A server and a worker of one version."""

    def __init__(self, tree, directory, values):
        self.tree, self.directory, self.values = tree, directory, values
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.processes = []

    def manage(self, *command, **more):
        done = subprocess.run(
            [sys.executable, "manage.py", *command], cwd=self.tree, text=True, capture_output=True, check=False,
            env=environment(self.directory, **self.values, **more),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self):
        with (self.directory / "log").open("ab") as log:
            for command in (["server", "--port", str(self.port)], ["worker"]):
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "manage.py", *command], cwd=self.tree, stdout=log, stderr=log,
                        env=environment(self.directory, **self.values),
                    )
                )  # fmt: skip
        return self

    def await_ready(self):
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline:
            assert all(process.poll() is None for process in self.processes), (self.directory / "log").read_text()
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.base}/monitoring/health/ready", timeout=10).status_code == 200:
                    return self
            time.sleep(0.1)
        raise AssertionError((self.directory / "log").read_text())

    def end(self):
        """As a service manager does: SIGTERM, and it drains."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(PATIENCE)
        assert [process.returncode for process in self.processes] == [0, 0]
        self.processes = []

    def kill(self):
        for process in self.processes:
            process.kill()
            process.wait()


class Callers:
    """Requests all the time, in turn at every server that the load balancer knows."""

    def __init__(self, token):
        self.header = {"Authorization": f"Bearer {token}"}
        self.bases, self.statuses, self.bad, self.executions = [], Counter(), [], []
        self._ending, self._busy, self._turn = threading.Event(), threading.Lock(), itertools.count()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        with httpx.Client(headers=self.header, timeout=PATIENCE) as client:
            while not self._ending.wait(0.02):
                with self._busy:
                    number, newest = next(self._turn), self.executions[-1] if self.executions else "rolling"
                    base = self.bases[number % len(self.bases)]
                    report = {"workflow_id": f"tracker-{number}", "percent_complete": 1, "status": "in_progress"}
                    for method, path, body in (
                        ("POST", "/workflows/rolling/execute", {}), ("GET", "/executions?limit=5", None),
                        ("GET", "/tasks?limit=5", None), ("GET", f"/progress/{newest}", None),
                        ("POST", "/progress/update", report), ("GET", "/workflows?limit=5", None),
                    ):  # fmt: skip
                        answer = client.request(method, f"{base}{path}", json=body)
                        self.statuses[answer.status_code] += 1
                        if answer.status_code >= 400:
                            self.bad.append(f"{method} {base}{path}: {answer.status_code} {answer.text[:300]}")
                        elif path.endswith("/execute"):
                            self.executions.append(answer.json()["execution_id"])

    def start(self, base):
        self.bases = [base]
        self._thread.start()

    def now(self, *bases):
        """From here on these; no request to another is under way any more when this returns."""
        with self._busy:
            self.bases = list(bases)
        before, deadline = len(self.executions), time.monotonic() + PATIENCE
        while len(self.executions) < before + BESIDE and not self.bad:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def end(self):
        self._ending.set()
        self._thread.join(PATIENCE)


@pytest.fixture
def values():
    try:
        with postgres.running(synced=False) as url, redis.running() as cache:
            yield {
                "DATABASE_URL": url, "REDIS_URL": cache, "SERVER_PROCESSES": "2", "RATE_LIMIT_ENABLED": "false",
                "LOG_LEVEL": "WARNING",
            }  # fmt: skip
    except (postgres.NotInstalled, redis.NotInstalled) as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


def test_a40_the_next_version_comes_while_this_one_runs_and_goes_again(tmp_path, values):
    tree, data = tmp_path / "next", tmp_path / "data"
    tree.mkdir()
    data.mkdir()
    next_version(tree)
    old, new, back = (Part(where, data, values) for where in (ROOT, tree, ROOT))
    with contextlib.ExitStack() as stack:
        for part in (old, new, back):
            stack.callback(part.kill)
        old.manage("migrate", "--verbosity", "0")
        old.manage("create_admin", ADMIN_PASSWORD=PASSWORD)
        old.start().await_ready()
        login = httpx.post(f"{old.base}/auth/token", json={"username": "admin", "password": PASSWORD}, timeout=PATIENCE)
        callers = Callers(login.json()["access_token"])
        made = httpx.post(
            f"{old.base}/workflows", json={"name": "Rolling", "steps": STEPS}, headers=callers.header, timeout=PATIENCE
        )
        assert made.status_code == 201, made.text
        callers.start(old.base)
        new.manage("migrate", "--verbosity", "0")  # under way: requests of the old
        new.start().await_ready()
        callers.now(old.base, new.base)
        callers.now(new.base)
        old.end()
        callers.now(new.base)
        back.start().await_ready()
        callers.now(new.base, back.base)
        callers.now(back.base)
        new.end()
        callers.now(back.base)
        callers.end()
        print(f"A40: {len(callers.executions)} executions, answers {dict(callers.statuses)}")
        errors = [line[-600:] for line in (data / "log").read_text().splitlines() if '"error"' in line]
        assert not callers.bad, "\n".join([*callers.bad[:5], *errors[:5]])
        whole(back, callers)


def whole(part, callers):
    """Every execution that was acknowledged is completed, no step was begun twice, and the rows agree."""
    with httpx.Client(base_url=part.base, headers=callers.header, timeout=PATIENCE) as client:
        deadline = time.monotonic() + PATIENCE
        while True:
            rows = everything(client, "/executions?workflow_id=rolling&limit=1000")
            if all(row["finished_at"] for row in rows):
                break
            assert time.monotonic() < deadline
            time.sleep(0.2)
        tasks = everything(client, "/tasks?workflow_id=rolling&limit=1000")
    assert {row["status"] for row in rows} == {"completed"}
    assert {row["id"] for row in rows} >= set(callers.executions)
    assert {row["attempt"] for row in tasks} == {1}
    assert " 0 violations" in part.manage("check_invariants")


def everything(client, page):
    found = []
    while page:
        told = client.get(page).json()
        found += told["results"]
        page = told["next"]
    return found
