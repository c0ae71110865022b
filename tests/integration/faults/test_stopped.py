"""Whoever is stopped by chaos goes on, even while the one who stopped it waits for what it holds."""

import random
import subprocess
import sys
import time

import psutil
import pytest

from apps.workers.chaos.faults import Faults


@pytest.fixture
def process():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield psutil.Process(child.pid)
    child.kill()
    child.wait()


def until(process, *statuses):
    deadline = time.monotonic() + 20
    while process.status() not in statuses:
        assert time.monotonic() < deadline, process.status()
        time.sleep(0.02)


def test_a_stopped_worker_goes_on_though_nobody_strikes_again(process):
    said = []
    faults = Faults(random.Random(1), lease_seconds=-2.0, say=said.append)
    faults._stop("w", process)
    until(process, psutil.STATUS_STOPPED)
    until(process, psutil.STATUS_SLEEPING, psutil.STATUS_RUNNING)
    assert said == ["SIGSTOP w", f"SIGCONT {process.pid}"]


def test_at_the_end_all_go_on_at_once(process):
    faults = Faults(random.Random(1), lease_seconds=600, say=lambda _: None)
    faults._stop("w", process)
    until(process, psutil.STATUS_STOPPED)
    faults.wake()
    until(process, psutil.STATUS_SLEEPING, psutil.STATUS_RUNNING)
    assert faults.struck.stops == 1
