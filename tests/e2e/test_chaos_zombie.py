"""A worker that is stopped for longer than its lease, and comes back: it is fenced, and nothing is recorded twice."""

import fcntl
import os
import signal
import time
from pathlib import Path

import psycopg

from tests.e2e.test_chaos import LEASE
from tests.e2e.test_make_run import ended, until

TRANSACTIONS = """
    SELECT pid, xact_start FROM pg_stat_activity
    WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


def holder(installation, client, execution):
    """The process of the worker that has the step now."""
    lines = client.get(f"/executions/{execution}/events").json()
    names = [line["data"]["performer"] for line in lines if line["type"] == "task.started"]
    if not names:
        return None
    pid = int(names[-1].split("-")[-2])
    return next((process for process in installation.running("worker") if process.pid == pid), None)


def in_a_transaction(installation, seconds=1.0):
    """Whether some transaction goes on for so long, which on this machine only who is stopped within one does."""
    url, deadline = installation.environment["DATABASE_URL"], time.monotonic() + seconds
    if url:
        with psycopg.connect(url, autocommit=True) as link:
            before = left = set(link.execute(TRANSACTIONS))
            while left and time.monotonic() < deadline:
                time.sleep(0.05)
                left = before & set(link.execute(TRANSACTIONS))
        return bool(left)
    with Path(installation.environment["DATA_DIR"], "platform.sqlite3-queue").open("rb+") as queue:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(queue, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.01)
            else:
                return False
    return True


def stop(process, installation):
    """SIGSTOP between two transactions: within one it would keep what it has locked from everybody until it goes on."""
    process.send_signal(signal.SIGSTOP)
    while in_a_transaction(installation):
        process.send_signal(signal.SIGCONT)
        time.sleep(0.1)
        process.send_signal(signal.SIGSTOP)


def test_a35_a_zombie_that_comes_back_is_fenced(installation, tmp_path):
    client = installation.client()
    script = f"until [ -e {tmp_path}/go ]; do sleep 0.1; done"
    step = {"id": "long", "retry": {"lost": 20}, "command": ["sh", "-c", script]}
    assert client.post("/workflows", json={"name": "Zombie", "steps": [step]}).status_code == 201
    execution = client.post("/workflows/zombie/execute", json={}).json()["execution_id"]
    zombie = until(lambda: holder(installation, client, execution))
    try:
        stop(zombie, installation)
        (tmp_path / "go").touch()  # its attempt ends well, and it cannot say so
        found = ended(client, execution)
        assert zombie.is_running()
    finally:
        os.kill(zombie.pid, signal.SIGCONT)
    assert found["status"] == "completed"
    time.sleep(LEASE)  # it comes back, has its say, and is told that it lost its lease
    lines = client.get(f"/executions/{execution}/events").json()
    print("\n".join(f"{one['at'][11:23]} {one['seq']} {one['type']} {one['data'].get('attempt', '')}" for one in lines))
    told = [(one["type"], one["data"].get("attempt")) for one in lines if one["step_id"]]
    assert told[:3] == [("task.started", 1), ("task.lost", 1), ("task.started", 2)]
    assert [event for event, _ in told].count("task.completed") == 1
    assert lines[-1]["type"] == "execution.completed", "nothing was written after the end"
    assert zombie.pid in [process.pid for process in installation.running("worker")], "it works on"
