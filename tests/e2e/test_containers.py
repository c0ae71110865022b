"""`make run` with a container runtime: the example on a real Podman and through the Dagger SDK, and what is killed."""

import os
import signal
import time

import pytest

from apps.executors.container.engine import sdk_version
from tests.e2e.conftest import Installation
from tests.e2e.test_examples import run_example
from tests.e2e.test_make_run import ended
from tests.support import dagger_engine, podman

PATIENCE = 180.0
PUBLIC = "busybox:1.36"  # what the example names; made here under that name, for no registry can be asked


def or_skip(context):
    """The runtime; where it is not installed the test is left out, unless everything must be there."""
    try:
        return context.__enter__()
    except podman.NotInstalled as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def engine():
    context = podman.running()
    service = or_skip(context)
    service.run("tag", podman.IMAGE, f"docker.io/library/{PUBLIC}")
    yield service
    context.__exit__(None, None, None)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def on_podman(engine, shared, tmp_path_factory):
    """An installation that chooses Docker because its socket answers."""
    yield from started(
        tmp_path_factory.mktemp("on-podman"), DOCKER_HOST=engine.host, CONTAINER_RUNTIME="", VOLUME_ROOTS=str(shared)
    )


def started(directory, **environment):
    running = Installation(directory, **environment).start()
    yield running
    try:
        running.stop()
    finally:
        running.kill()


def until(holds):
    deadline = time.monotonic() + PATIENCE
    while not (found := holds()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)
    return found


def check_example(installation, shared):
    found, _ = run_example(installation, "containers", {"shared": str(shared)})
    assert (found["status"], found["error"]) == ("completed", None)
    assert found["outputs"] == {"total": 43, "report": "43 in 2025, of 4 rows"}
    assert (shared / "north").read_text() == "22\n"
    logs = installation.client().get(f"/executions/{found['id']}/logs").json()
    assert "fetching 2025 from https://api.example.com" in "".join(line["text"] for line in logs)
    (left,) = installation.client().get(f"/executions/{found['id']}/artifacts").json()["results"]
    assert (left["step_id"], left["name"]) == ("report", "report.txt")
    file = installation.client().get(f"/executions/{found['id']}/artifacts/{left['id']}")
    assert file.text == "43 in 2025\n"
    steps = installation.client().get(f"/executions/{found['id']}/tasks").json()["results"]
    print(found["status"], found["outputs"], {step["step_id"]: step["status"] for step in steps}, left["name"])


def test_the_example_on_podman(on_podman, engine, shared):
    check_example(on_podman, shared)
    assert engine.containers() == []
    status = on_podman.client().get("/monitoring/dagger/status").json()
    assert (status["runtime"], status["available"], status["engine"]) == ("docker", True, "Podman Engine")


def test_the_example_through_the_dagger_sdk(shared, tmp_path_factory):
    rootfs = podman.make_rootfs(tmp_path_factory.mktemp("rootfs"))
    context = dagger_engine.running({PUBLIC: dagger_engine.Image(rootfs=rootfs)})
    stand_in = or_skip(context)
    stand_in.version = f"v{sdk_version()}"
    for path in shared.iterdir():
        path.unlink()
    session = {"DAGGER_SESSION_PORT": str(stand_in.port), "DAGGER_SESSION_TOKEN": stand_in.token}
    running = started(tmp_path_factory.mktemp("on-dagger"), CONTAINER_RUNTIME="", VOLUME_ROOTS=str(shared), **session)
    try:
        installation = next(running)
        status = installation.client().get("/monitoring/dagger/status").json()
        assert (status["runtime"], status["available"], status["version"]) == ("dagger", True, stand_in.version)
        check_example(installation, shared)
        assert len(stand_in.ran) == 4
        assert stand_in.token not in installation.log.read_text()
    finally:
        for _ in running:
            pass
        context.__exit__(None, None, None)


def start(client, name, **step):
    workflow = {"name": name, "steps": [{"id": "box", "image": PUBLIC, **step}]}
    assert client.post("/workflows", json=workflow).status_code == 201
    return client.post(f"/workflows/{name}/execute", json={}).json()["execution_id"]


def running(engine):
    return [box for box in engine.containers() if box["State"] == "running"]


def shown(what, before, engine):
    """Containers before and after."""
    print(what, [(box["State"], box["Labels"]["org.orchestration.step"]) for box in before], "->", engine.containers())


def test_a_cancel_stops_and_removes_the_container(on_podman, engine):
    client = on_podman.client()
    execution = start(client, "endless", command=["sleep", "1000"])
    before = until(lambda: running(engine))
    assert [box["Labels"]["org.orchestration.execution"] for box in before] == [execution]
    assert client.post(f"/executions/{execution}/cancel").status_code == 202
    assert ended(client, execution, PATIENCE)["status"] == "cancelled"
    assert until(lambda: engine.containers() == [])
    shown("cancel", before, engine)


def test_a_timeout_stops_and_removes_the_container(on_podman, engine):
    client = on_podman.client()
    execution = start(client, "too-long", command=["sleep", "1000"], timeout_seconds=15)
    before = until(lambda: running(engine))
    assert len(before) == 1
    found = ended(client, execution, PATIENCE)
    assert (found["status"], found["error"]["type"]) == ("failed", "timeout")
    assert until(lambda: engine.containers() == [])
    shown("timeout", before, engine)


def test_the_container_of_a_killed_worker_is_removed_by_the_next(on_podman, engine, shared):
    """Its step is performed again, and once the container that nobody holds is gone there is none left."""
    for path in shared.iterdir():
        path.unlink()
    client = on_podman.client()
    script = "echo begun >> /data/begun; [ $(wc -l < /data/begun) -gt 1 ] || sleep 1000"
    execution = start(
        client, "orphaned", command=["sh", "-c", script], volumes=[{"source": str(shared), "target": "/data"}]
    )
    (orphan,) = until(lambda: running(engine))
    until((shared / "begun").exists)
    for worker in on_podman.running("worker"):
        os.kill(worker.pid, signal.SIGKILL)
    found = ended(client, execution, PATIENCE)
    assert (found["status"], found["error"]) == ("completed", None)
    assert until(lambda: engine.containers() == [])
    events = client.get(f"/executions/{execution}/events").json()
    assert [event["type"] for event in events].count("task.lost") == 1
    assert orphan["Labels"]["org.orchestration.attempt"] == "1"


def test_a_secret_is_given_to_the_container_and_shown_nowhere(on_podman, engine):
    client = on_podman.client()
    answer = client.post("/secrets", json={"name": "boxed", "value": "s3cr3t-of-the-box"})
    assert answer.status_code == 201, answer.text
    script = 'echo "it is $TOKEN"; [ "$(printf %s "$TOKEN" | wc -c)" = 17 ]'
    execution = start(client, "secretive", command=["sh", "-c", script], environment={"TOKEN": "${secrets.boxed}"})
    assert ended(client, execution, PATIENCE)["status"] == "completed"
    (task,) = client.get(f"/executions/{execution}/tasks").json()["results"]
    assert task["outputs"]["stdout"] == "it is ***\n"
    logs = "".join(line["text"] for line in client.get(f"/executions/{execution}/logs").json())
    assert "it is ***" in logs
    assert "s3cr3t-of-the-box" not in logs + on_podman.log.read_text()
