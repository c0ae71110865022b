"""Whoever is stopped by chaos goes on, even while who stopped it waits for what it holds; a dead server is missed."""

import random
import subprocess
import sys
import time

import psutil
import pytest

from apps.workers.chaos.faults import Faults

PATIENCE = 60.0


@pytest.fixture
def process():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield psutil.Process(child.pid)
    child.kill()
    child.wait()


def until(process, *statuses):
    deadline = time.monotonic() + PATIENCE
    while process.status() not in statuses:
        assert time.monotonic() < deadline, process.status()
        time.sleep(0.02)


def test_a_stopped_worker_goes_on_though_nobody_strikes_again(process):
    said = []
    faults = Faults(random.Random(1), lease_seconds=0.0, say=said.append)
    faults._stop("w", process)
    until(process, psutil.STATUS_STOPPED)
    until(process, psutil.STATUS_SLEEPING, psutil.STATUS_RUNNING)
    deadline = time.monotonic() + PATIENCE  # it is said a moment after it is done
    while len(said) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert said == ["SIGSTOP w", f"SIGCONT {process.pid}"]


def test_at_the_end_all_go_on_at_once(process):
    faults = Faults(random.Random(1), lease_seconds=600, say=lambda _: None)
    faults._stop("w", process)
    until(process, psutil.STATUS_STOPPED)
    faults.wake()
    until(process, psutil.STATUS_SLEEPING, psutil.STATUS_RUNNING)
    assert faults.struck.stops == 1


class Child:
    """What psutil says of a process; of a dead one that nobody has buried it raises."""

    def __init__(self, *words):
        self.words = words

    def cmdline(self):
        if not self.words:
            raise psutil.ZombieProcess(1)
        return list(self.words)


def test_the_server_is_found_beside_a_worker_that_has_just_died(monkeypatch):
    server = Child("manage.py", "server")
    parent = Child("manage.py", "serve")
    parent.children = lambda: [Child(), Child("manage.py", "worker"), server]
    worker = Child("manage.py", "worker")
    worker.parent = lambda: parent
    faults = Faults(random.Random(1), lease_seconds=5, say=lambda _: None)
    monkeypatch.setattr(faults, "workers", lambda: {"w": worker})
    assert faults.server() is server


LISTENS = """
import socket, time
server = socket.create_server(("0.0.0.0", {port}))
print(server.getsockname()[1], flush=True)
time.sleep(600)
"""


def listening(port=0):
    child = subprocess.Popen([sys.executable, "-c", LISTENS.format(port=port)], stdout=subprocess.PIPE, text=True)
    return child, int(child.stdout.readline())


def test_a_killed_server_is_missed_until_another_answers_where_it_did():
    faults = Faults(random.Random(1), lease_seconds=5, say=lambda _: None)
    server, port = listening()
    faults._kill_server(psutil.Process(server.pid))
    server.wait(PATIENCE)
    assert faults.struck.server_kills == 1
    assert faults.silent() == [f"0.0.0.0:{port}"]
    server, _ = listening(port)
    try:
        assert faults.silent() == []
    finally:
        server.kill()
        server.wait(PATIENCE)
