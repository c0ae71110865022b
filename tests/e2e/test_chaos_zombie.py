"""A worker that is stopped for longer than its lease, and comes back: it is fenced, and nothing is recorded twice."""

import os
import signal
import time

from tests.e2e.test_chaos import LEASE
from tests.e2e.test_make_run import ended, until

STEP = {
    "id": "long", "retry": {"lost": 20},
    "python": {"call": "builtin.sleep", "with": {"seconds": 4}},
}  # fmt: skip


def holder(installation, client, execution):
    """The process of the worker that has the step now."""
    lines = client.get(f"/executions/{execution}/events").json()
    names = [line["data"]["performer"] for line in lines if line["type"] == "task.started"]
    if not names:
        return None
    pid = int(names[-1].split("-")[-2])
    return next((process for process in installation.running("worker") if process.pid == pid), None)


def test_a35_a_zombie_that_comes_back_is_fenced(installation):
    client = installation.client()
    assert client.post("/workflows", json={"name": "Zombie", "steps": [STEP]}).status_code == 201
    execution = client.post("/workflows/zombie/execute", json={}).json()["execution_id"]
    zombie = until(lambda: holder(installation, client, execution))
    zombie.send_signal(signal.SIGSTOP)
    try:
        found = ended(client, execution, 120)
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
