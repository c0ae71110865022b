"""Agents as real processes against a real installation: they complete, die, come back too late, and are cancelled."""

import contextlib
import signal
import subprocess
import sys

import httpx
import pytest
import yaml

from tests.e2e.conftest import PATIENCE, ROOT, users_environment
from tests.e2e.test_make_run import ended, until


@pytest.fixture
def api(installation):
    """A client of the administrator's, with the example saved."""
    client = installation.client()
    definition = yaml.safe_load((ROOT / "examples" / "agents" / "review.yaml").read_text())
    assert client.post("/workflows", json=definition).status_code in (201, 409)
    return client


@pytest.fixture
def start_agent(installation, api, tmp_path):
    """`start_agent("one")` gives a running process of the example, registered by that name."""
    running = []

    def start(name):
        made = api.post("/agents", json={"name": name, "labels": {"kind": "reviewer"}}).json()
        environment = users_environment(
            PLATFORM_URL=installation.base, AGENT_ID=made["id"], AGENT_TOKEN=made["token"],
        )  # fmt: skip
        log = (tmp_path / name).open("wb")
        command = [sys.executable, "-m", "examples.agents.reviewer"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        running.append((made["id"], process))
        process.said = (tmp_path / name).read_text
        process.claims = made
        return process

    yield start
    for identity, process in running:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()
        api.delete(f"/agents/{identity}")


def execute(api, seconds):
    inputs = {"inputs": {"text": "To be or not to be", "seconds": seconds}}
    return api.post("/workflows/review/execute", json=inputs).json()["execution_id"]


def started(api, execution, attempt=1):
    """Who began this attempt of the step for agents, once somebody has."""

    def look():
        events = api.get(f"/executions/{execution}/events").json()
        return [
            one["data"]["performer"] for one in events
            if (one["type"], one["step_id"]) == ("task.started", "review") and one["data"]["attempt"] == attempt
        ]  # fmt: skip

    return until(look)[0]


def test_an_agent_performs_a_step_and_drains(api, start_agent):
    execution = execute(api, 0)  # before there is anybody: the claim finds it at once
    process = start_agent("performing")
    found = ended(api, execution)
    assert (found["status"], found["outputs"]) == ("completed", {"words": 6}), process.said()
    # And one that comes while the claim waits.
    execution = execute(api, 1)
    assert started(api, execution) == "agent:performing"
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0, process.said()
    assert ended(api, execution)["status"] == "completed"  # it was ended, not dropped


def test_a35_what_a_killed_agent_had_goes_to_another(api, start_agent):
    execution = execute(api, 4)
    first = start_agent("killed")
    assert started(api, execution) == "agent:killed"
    first.kill()
    start_agent("heir")
    assert ended(api, execution)["status"] == "completed"
    assert started(api, execution, attempt=2) == "agent:heir"


def test_an_agent_that_was_stopped_for_too_long_is_refused_when_it_comes_back(installation, api, start_agent):
    execution = execute(api, 4)
    zombie = start_agent("zombie")
    assert started(api, execution) == "agent:zombie"
    zombie.send_signal(signal.SIGSTOP)
    start_agent("living")
    found = ended(api, execution)
    zombie.send_signal(signal.SIGCONT)
    until(lambda: "went to another" in zombie.said())
    task = api.get(f"/executions/{execution}/tasks").json()["results"][0]["id"]
    late = httpx.post(
        f"{installation.base}/agents/{zombie.claims['id']}/tasks/{task}/complete",
        json={"attempt": 1, "outputs": {"words": 0}},
        headers={"Authorization": f"Bearer {zombie.claims['token']}"},
        timeout=PATIENCE,
    )
    assert (late.status_code, late.json()["code"]) == (409, "stale_attempt")
    assert api.get(f"/executions/{execution}").json() == found
    events = api.get(f"/executions/{execution}/events").json()
    assert [one["type"] for one in events if one["step_id"] == "review"].count("task.completed") == 1


def test_a_cancel_reaches_the_agent(api, start_agent):
    execution = execute(api, 60)
    process = start_agent("cancelled")
    started(api, execution)
    assert api.post(f"/executions/{execution}/cancel").status_code == 202
    assert ended(api, execution)["status"] == "cancelled"
    assert "Traceback" not in process.said()
    # It is free again.
    assert ended(api, execute(api, 0))["status"] == "completed"
