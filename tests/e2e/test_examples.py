"""The files under examples/, really run; and the demo, as its exit status tells scripts."""

import subprocess

import pytest

from tests.e2e.conftest import ROOT, users_environment
from tests.e2e.test_make_run import ended
from tests.support.postgres import free_port


def save_example(client, name):
    text = (ROOT / "examples" / f"{name}.yaml").read_bytes()
    answer = client.post("/workflows", content=text, headers={"Content-Type": "application/yaml"})
    assert answer.status_code in (201, 409), answer.text


def run_example(installation, name, inputs=None, meanwhile=lambda client, execution: None):
    client = installation.client()
    save_example(client, name)
    execution = client.post(f"/workflows/{name}/execute", json={"inputs": inputs or {}}).json()["execution_id"]
    meanwhile(client, execution)
    found = ended(client, execution)
    steps = {task["step_id"]: task for task in client.get(f"/executions/{execution}/tasks").json()["results"]}
    return found, steps


def test_every_example_is_here():
    assert {path.stem for path in (ROOT / "examples").glob("*.yaml")} == {
        "sales-report", "retrying", "containers", "approval", "for-each", "waiting", "parent", "limits",
    }  # fmt: skip


def test_the_sales_report_adds_up(installation):
    found, steps = run_example(installation, "sales-report", {"pause": 0.1})
    assert found["status"] == "completed"
    regions = [steps[name]["outputs"] for name in ("north", "south", "east", "west")]
    assert found["outputs"]["total"] == round(sum(region["total"] for region in regions), 2)
    assert found["outputs"]["best_region"] == max(regions, key=lambda region: region["total"])["region"]
    assert all(region["days"] == 365 for region in regions)
    assert f"{found['outputs']['total']:,.2f} in all" in found["outputs"]["report"]
    assert {step["status"] for step in steps.values()} == {"completed"}


def test_the_retrying_one_gets_there(installation):
    found, steps = run_example(installation, "retrying")
    assert found["status"] == "completed"
    assert found["outputs"] == {"greeting": "up after all\n", "tidied": True}
    assert (steps["unsteady"]["attempt"], steps["unsteady"]["failures"]) == (3, 2)
    assert (steps["hopeless"]["status"], steps["tidy"]["status"]) == ("failed", "completed")


def test_container_steps_say_what_they_need(installation):
    found, steps = run_example(installation, "containers")  # tests/e2e/test_containers.py runs it on real runtimes
    assert (found["status"], found["error"]["type"]) == ("failed", "unavailable")
    for word in ("CONTAINER_RUNTIME", "DAGGER_SESSION_PORT", "DOCKER_HOST"):
        assert word in found["error"]["message"]
    assert steps["report"]["status"] == "skipped"


def test_one_task_for_each_item(installation):
    found, steps = run_example(installation, "for-each")
    assert [one["result"] for one in found["outputs"]["results"]] == [6765, 10946, 17711, 28657, 46368, 75025]
    assert steps["report"]["outputs"] == {"count": 6}


def test_a_workflow_within_a_workflow(installation):
    save_example(installation.client(), "for-each")
    found, _ = run_example(installation, "parent")
    assert [one["result"] for one in found["outputs"]["results"]] == [5, 8, 13]


def test_it_waits_for_a_time_and_for_a_word(installation):
    def say_go(client, execution):
        assert client.post(f"/executions/{execution}/signal/go", json={"who": "me"}).status_code == 202

    found, _ = run_example(installation, "waiting", meanwhile=say_go)
    assert found["outputs"] == {"who": "me"}


def test_a_person_decides(installation):
    def approve(client, execution):
        (task,) = client.get(f"/tasks?execution_id={execution}&waiting_for=approval").json()["results"]
        assert client.post(f"/tasks/{task['id']}/approve", json={"form": {}}).status_code == 400
        answer = client.post(f"/tasks/{task['id']}/approve", json={"form": {"comment": "fine"}})
        assert answer.status_code == 200, answer.text

    found, steps = run_example(installation, "approval", meanwhile=approve)
    assert found["outputs"] == {"decision": "fine"}
    assert steps["tell-about-no"]["status"] == "skipped"


def test_limits_let_through_and_a_result_is_used_again(installation):
    for _ in range(2):
        found, steps = run_example(installation, "limits")
        assert (found["status"], found["outputs"]) == ("completed", {"rows": 3})
    assert steps["fetch"]["attempt"] == 0


@pytest.mark.parametrize(("change", "status"), [({}, 0), ({"PROCESS_STEPS": "off"}, 1)], ids=["completes", "does not"])
def test_make_demo_ends_with_what_its_execution_did(tmp_path, change, status):
    environment = {"ONCE": "1", "PORT": str(free_port()), "DATA_DIR": str(tmp_path), **change}
    done = subprocess.run(
        ["make", "-s", "demo"], cwd=ROOT, env=users_environment(**environment),
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == (status and 2), done.stdout + done.stderr  # make's own status for a failed recipe is 2
    if status:
        assert "PROCESS_STEPS" in done.stdout
        assert "Error 1" in done.stderr
    else:
        assert "completed" in done.stdout
        assert '"best_region": "east"' in done.stdout


def test_an_old_python_is_told_in_one_line(tmp_path):
    old = tmp_path / "python3.8"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && { echo Python 3.8.18; exit 0; }\nexit 1\n')
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "-s", "setup", f"PYTHON={old}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert complaints == [
        "cannot set up: Python 3.8.18 is too old; install Python 3.11 or newer, or name one: make PYTHON=python3.11"
    ]
