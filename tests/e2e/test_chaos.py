"""Workers that die and zombies that return, while executions run: nothing is lost, doubled or repaired by hand."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time

import psutil

from tests.e2e.conftest import ROOT
from tests.e2e.test_make_run import ended

EXECUTIONS = 30
SECONDS = 12.0
LEASE = 5.0  # of the fixture's installation
PATIENT = {"max_attempts": 1, "lost": 100}  # deaths are what is tested here, not their budget


def step(identity, *depends_on, seconds=0.05):
    call = {"call": "builtin.sleep", "with": {"seconds": seconds}}
    return {"id": identity, "python": call, "depends_on": list(depends_on), "retry": PATIENT}


GRAPH = [step("a"), step("b", "a", seconds=0.3), step("c", "a"), step("d", "b", "c"), step("e", "d")]


def test_a35_killed_and_stopped_workers_lose_nothing(installation):
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    rng = random.Random(seed)
    client = installation.client()
    assert client.post("/workflows", json={"name": "Chaos", "steps": GRAPH}).status_code == 201
    started, kills, stops, stopped = [], 0, 0, {}

    def go_on(pid):
        del stopped[pid]
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline or len(started) < EXECUTIONS or not kills:
        if len(started) < EXECUTIONS:
            started.append(client.post("/workflows/chaos/execute", json={}).json()["execution_id"])
        alive = [process for process in installation.running("worker") if process.pid not in stopped]
        with contextlib.suppress(psutil.Error):  # it was killed in the round before, and is gone by now
            if alive and rng.random() < 0.12:
                rng.choice(alive).kill()
                kills += 1
            elif alive and not stopped and rng.random() < 0.1:
                process = rng.choice(alive)
                process.suspend()
                # By a timer: on SQLite it may hold the writers' queue, which the next request of this loop waits for.
                stopped[process.pid] = threading.Timer(LEASE + 2, go_on, [process.pid])
                stopped[process.pid].start()
                stops += 1
        time.sleep(0.2)
    for timer in list(stopped.values()):
        timer.join()
    outcomes = [ended(client, execution, 180)["status"] for execution in started]
    assert outcomes == ["completed"] * EXECUTIONS, f"seed {seed}, {kills} kills, {stops} stops"
    done = subprocess.run(
        [sys.executable, "manage.py", "check_invariants"], cwd=ROOT, env=installation.environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"seed {seed}: {done.stdout}{done.stderr}"
    assert " 0 violations" in done.stdout
