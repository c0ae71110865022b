"""`manage.py chaos`: a private installation is hurt and judged; one's own only after `--yes`."""

import json
import subprocess
import sys

from tests.e2e.conftest import ROOT, users_environment

KILLS_THE_SERVER_AT_ONCE = "15"  # a seed whose first blow is at the server


def chaos(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "manage.py", "chaos", *arguments], cwd=ROOT, env={**users_environment(), **environment},
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip


def test_a35_a_private_installation_is_killed_and_nothing_is_lost(tmp_path):
    figures = tmp_path / "figures.json"
    done = chaos("--seconds", "15", "--seed", "3", "--json", str(figures))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 violations" in done.stdout
    told = json.loads(figures.read_text())
    assert told["kills"] >= 1
    assert told["executions"] >= 5
    assert told["violations"] == []


def ours(installation):
    """Those that it would kill, and who started them; workers have children of their own that come and go."""
    return {process.pid for command in ("serve", "server", "worker") for process in installation.running(command)}


def test_without_yes_it_says_what_it_would_do_and_does_nothing(installation):
    before = ours(installation)
    done = chaos("--here", **installation.environment)
    assert done.returncode == 2
    assert "kill -9 its workers" in done.stderr
    assert "2 workers and a server" in done.stderr
    assert "--yes" in done.stderr
    assert ours(installation) == before


def test_a_lost_step_is_told_and_ends_1(installation, tmp_path):
    """The checker can fail: an execution that nobody moves is one. And what it killed is there again when it ends."""
    client = installation.client()
    held = {"name": "Held", "steps": [{"id": "ok", "approval": {}}]}
    assert client.post("/workflows", json=held).status_code in (201, 409)
    execution = client.post("/workflows/held/execute", json={}).json()["execution_id"]
    damage = (
        "from apps.workflows.models import Task; "
        f"Task.objects.filter(execution='{execution}').update(waiting_for='timer', due_at=None)"
    )
    shell = [sys.executable, "manage.py", "shell", "-c"]
    subprocess.run([*shell, damage], cwd=ROOT, env=installation.environment, check=True, capture_output=True)
    try:
        done = chaos(
            "--here", "--yes", "--seconds", "1", "--seed", KILLS_THE_SERVER_AT_ONCE, **installation.environment
        )
        assert done.returncode == 1, done.stdout + done.stderr
        assert "1 servers killed" in done.stdout
        assert f"I2 {execution}: ok is waiting" in done.stdout
    finally:
        mend = damage.replace("'timer'", "'approval'")
        subprocess.run([*shell, mend], cwd=ROOT, env=installation.environment, check=True, capture_output=True)
        client.post(f"/executions/{execution}/cancel")
