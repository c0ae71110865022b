"""As a user would: `make run`, log in, create, execute, watch, look at outputs, history and metrics; then break it."""

import json
import os
import re
import signal
import time

import psutil
import pytest
from websockets.sync.client import connect

from tests.e2e.conftest import PATIENCE

CHAIN = {
    "name": "Greeting",
    "inputs": {"who": {"type": "string"}},
    "outputs": [{"name": "greeting", "value": "${steps.shout.outputs.text}"}],
    "steps": [
        {"id": "greet", "command": ["printf", "hello %s", "${inputs.who}"]},
        {
            "id": "shout",
            "depends_on": ["greet"],
            "command": ["sh", "-c", 'tr a-z A-Z | sed \'s/.*/{"text": "&"}/\''],
        },
    ],
}


def until(what, seconds=PATIENCE):
    """Poll until `what()` gives something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError(f"it did not come about within {seconds:g} s")


def execute(client, definition, inputs=None):
    name = definition["name"].lower().replace(" ", "-")
    answer = client.post("/workflows", json=definition)
    assert answer.status_code in (201, 409), answer.text
    answer = client.post(f"/workflows/{name}/execute", json={"inputs": inputs or {}})
    assert answer.status_code == 202, answer.text
    return answer.json()["execution_id"]


def ended(client, execution, seconds=PATIENCE):
    def look():
        answer = client.get(f"/executions/{execution}")
        assert answer.status_code == 200, answer.text
        found = answer.json()
        return found if found["finished_at"] else None

    return until(look, seconds)


def follow(installation, client, execution):
    """Every frame of the socket until the execution has ended."""
    url = f"{installation.base.replace('http', 'ws')}/progress/ws?workflow_id={execution}&since=0"
    frames = []
    bearer = {"Authorization": f"Bearer {client.token}"}
    with connect(url, additional_headers=bearer, open_timeout=PATIENCE) as socket:
        while True:
            frame = json.loads(socket.recv(timeout=PATIENCE))
            frames.append(frame)
            if frame.get("event", "").startswith("execution.") and frame["status"] in ("completed", "failed"):
                return frames


def test_a_user_creates_executes_watches_and_reads(installation):
    client = installation.client()
    execution = execute(client, CHAIN, {"who": "world"})
    frames = follow(installation, client, execution)
    assert frames[0]["type"] == "snapshot"
    events = [frame for frame in frames if frame["type"] == "event"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["event"] == "execution.completed"

    found = ended(client, execution)
    assert found["outputs"] == {"greeting": "HELLO WORLD"}
    assert found["percent_complete"] == 100

    history = client.get("/progress/greeting/history").json()["results"]
    assert [line["seq"] for line in history] == [event["seq"] for event in events]
    progress = client.get("/progress/greeting").json()
    assert progress["execution_id"] == execution
    assert {step["status"] for step in progress["steps"].values()} == {"completed"}

    def counted():
        text = client.get("/monitoring/metrics/dagger_workflow_executions_total").text
        return re.search(r'dagger_workflow_executions_total\{[^}]*workflow_id="greeting"[^}]*\} 1\.0', text)

    until(counted)
    logs = client.get(f"/executions/{execution}/logs").json()
    assert "hello world" in "".join(line["text"] for line in logs if line["step_id"] == "greet")


def test_nothing_is_open_to_nobody(installation):
    client = installation.client()
    client.headers.pop("Authorization")
    for path in (
        "/workflows",
        "/executions",
        "/tasks",
        "/progress/greeting",
        "/monitoring/metrics",
        "/schema",
        "/docs",
    ):
        answer = client.get(path)
        assert answer.status_code == 401, path
        assert answer.headers["content-type"].startswith("application/problem+json")
    assert client.get("/monitoring/health/ready").status_code == 200


def test_a35_a_worker_killed_in_the_middle_of_a_step_is_replaced_and_the_step_finished(installation, tmp_path):
    client = installation.client()
    steps = [{"id": "long", "command": ["sh", "-c", f"until [ -e {tmp_path}/go ]; do sleep 0.1; done"]}]
    execution = execute(client, {"name": "Long", "steps": steps})

    def performer():
        (task,) = client.get(f"/executions/{execution}/tasks").json()["results"]
        return task["performer"] if task["status"] == "in_progress" else None

    pid = int(until(performer).split("-")[-2])
    assert "worker" in psutil.Process(pid).cmdline()
    os.kill(pid, signal.SIGKILL)
    (tmp_path / "go").touch()
    assert ended(client, execution)["status"] == "completed"
    journal = client.get(f"/executions/{execution}/events").json()
    assert [line["type"] for line in journal] == [
        "execution.created", "execution.started", "task.started", "task.lost", "task.started", "task.completed",
        "execution.completed",
    ]  # fmt: skip
    assert [line["data"]["attempt"] for line in journal if line["type"] == "task.started"] == [1, 2]
    until(lambda: len(installation.running("worker")) == 2)


def test_cancel_ends_a_running_process_and_its_children(installation):
    client = installation.client()
    marker = f"4{os.getpid()}"
    steps = [{"id": "stubborn", "command": ["sh", "-c", f"trap '' TERM; sleep {marker} & wait; sleep {marker}"]}]
    execution = execute(client, {"name": "Stubborn", "steps": steps})

    def sleepers():
        return [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", marker]]

    until(sleepers)
    answer = client.post(f"/executions/{execution}/cancel")
    assert answer.status_code == 202
    assert answer.json()["cancel_requested_at"]
    assert ended(client, execution)["status"] == "cancelled"
    until(lambda: not sleepers())
    again = client.post(f"/executions/{execution}/cancel")
    assert again.status_code == 409
    assert again.json()["code"] == "invalid_transition"


@pytest.mark.parametrize("case", ["taken port", "unwritable data directory", "wrong setting"])
def test_what_cannot_start_says_so_in_one_line(installation, tmp_path, case):
    import subprocess

    from tests.e2e.conftest import ROOT

    occupied = tmp_path / "a-file"
    occupied.touch()
    change, told = {
        "taken port": ({"DATA_DIR": str(tmp_path)}, rf"port {installation.port} on 127.0.0.1 is taken"),
        "unwritable data directory": ({"DATA_DIR": str(occupied / "x"), "PORT": "1"}, "DATA_DIR="),
        "wrong setting": ({"DATA_DIR": str(tmp_path), "WORKERS": "many"}, "WORKERS='many'"),
    }[case]
    done = subprocess.run(
        ["make", "-s", "run"], cwd=ROOT, env={**installation.environment, "DATABASE_URL": "", **change},
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(complaints) == 1, complaints
    assert re.search(told, complaints[0])


def test_a38_sigterm_drains_and_a_second_run_finds_everything_as_it_was_left(installation):
    client = installation.client()
    before = client.get("/executions").json()["results"]
    steps = [{"id": "brief", "python": {"call": "builtin.sleep", "with": {"seconds": 1.5}}}]
    execution = execute(client, {"name": "Brief", "steps": steps})
    until(lambda: client.get(f"/executions/{execution}").json()["status"] == "in_progress")
    assert installation.stop() < 30
    installation.start()
    client = installation.client()
    found = ended(client, execution)
    assert found["status"] == "completed"
    attempts = [e["type"] for e in client.get(f"/executions/{execution}/events").json()].count("task.started")
    assert attempts == 1, "it was finished before the worker ended"
    after = client.get("/executions").json()["results"]
    # A page of the list may be full: the newest pushes the oldest off it.
    assert [e["id"] for e in after[1:]] == [e["id"] for e in before][: len(after) - 1]
