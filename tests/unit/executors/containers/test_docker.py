"""What the API of Docker and Podman adds: limits that hold, live output, removal by label. On a real Podman."""

import asyncio
import json
import logging
import signal
import tarfile
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from secrets import token_hex

import psutil
import pytest
from docker import APIClient

from apps.executors import Options
from apps.executors.container import ContainerExecutor, archive, caches, chosen, orphans, status
from apps.executors.container.choice import answers
from apps.executors.container.labels import INSTALLATION, WORKFLOW
from tests.support import podman, registry
from tests.unit.executors.containers.conftest import Runner

ENDLESS = "x=a; while true; do x=$x$x; done"


async def test_out_of_memory_is_told_as_such(docker):
    error = (await docker.sh(ENDLESS, resources={"memory": "16M"})).error
    assert (error.type, error.exit_code) == ("oom", 137)
    assert error.message == (
        "The container ran out of memory of 16M and was killed (exit code 137): give it more `resources.memory`."
    )


async def test_more_than_an_execution_may_leave_is_not_fetched(docker, tmp_path):
    docker.executor = ContainerExecutor(replace(docker.options, max_artifact_bytes=1_000_000))
    script = 'head -c 1000001 /dev/zero > "$ORCHESTRATION_ARTIFACTS/big"'
    error = (await docker.sh(script, artifacts=tmp_path / "left")).error
    assert (error.type, error.retryable) == ("output", False)
    assert "ARTIFACT_EXECUTION_BYTES" in error.message
    script = 'cd "$ORCHESTRATION_ARTIFACTS"; seq 1001 | xargs touch'
    error = (await docker.sh(script, artifacts=tmp_path / "many")).error
    assert (error.type, error.retryable) == ("output", False)
    assert "1,000 files" in error.message
    gone = await docker.sh('rmdir "$ORCHESTRATION_ARTIFACTS"', artifacts=tmp_path / "none")
    assert gone.error is None


def test_the_archive_of_an_empty_directory_ends_with_its_end_mark():
    """What comes after it Podman's unpacker may leave unread, and Podman then says "broken pipe", once in a while."""
    data = archive.empty()
    with tarfile.open(fileobj=BytesIO(data)) as read:
        entries = [(entry.name, entry.isdir(), entry.mode) for entry in read]
    assert entries == [("orchestration", True, 0o755), ("orchestration/artifacts", True, 0o777)]
    assert len(data) == len(entries) * 512 + 1024


async def test_an_engine_that_lost_the_container_tells_no_exit_code(docker, monkeypatch):
    """Podman answers 200 with the code 0 and, beside it, an error."""
    answer = {"StatusCode": 0, "Error": {"Message": "container has already been removed"}}
    monkeypatch.setattr(APIClient, "wait", lambda *_, **__: answer)
    error = (await docker.sh("exit 3")).error
    assert (error.type, error.retryable) == ("error", True)
    assert "already been removed" in error.message


async def test_being_killed_is_not_told_as_out_of_memory(docker):
    error = (await docker.sh("exit 137", resources={"memory": "16M"})).error
    assert (error.type, error.exit_code) == ("exit_code", 137)
    assert "not for lack of memory" in error.message


async def test_what_it_may_use_reaches_the_engine(docker, podman_service):
    step = asyncio.create_task(docker.sh("sleep 1000", resources={"memory": "32M", "cpu": "500m"}))
    (box,) = await docker.until(docker.left)
    (seen,) = json.loads(podman_service.run("inspect", box["Id"]))
    limits = seen["HostConfig"]
    assert (limits["Memory"], limits["MemorySwap"], limits["NanoCpus"]) == (32_000_000, 32_000_000, 500_000_000)
    assert limits["PidsLimit"] == 1024
    assert not limits["Privileged"]
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step


async def test_it_cannot_gain_privileges(docker):
    result = await docker.run("grep", "NoNewPrivs", "/proc/self/status")
    assert result.outputs["stdout"].split() == ["NoNewPrivs:", "1"]


async def test_without_a_network_there_is_none(docker):
    alone = (await docker.run("ls", "/sys/class/net", network="none")).outputs["stdout"].split()
    among = (await docker.run("ls", "/sys/class/net")).outputs["stdout"].split()
    assert alone == ["lo"]
    assert "eth0" in among


async def test_output_comes_while_it_runs(docker, volumes, sink):
    shared = [{"source": str(volumes), "target": "/data"}]
    script = "echo first; until [ -e /data/go ]; do sleep 0.1; done; echo second"
    step = asyncio.create_task(docker.sh(script, volumes=shared))
    await docker.until(lambda: sink.text("stdout") == "first\n")
    assert not step.done()
    (volumes / "go").touch()
    assert (await step).outputs["stdout"] == "first\nsecond\n"


async def test_more_output_than_is_kept(docker, sink):
    result = await docker.sh("yes 0123456789 | head -c 9000000; echo; echo '{\"end\": true}'")
    assert result.outputs["end"] is True
    assert result.outputs["stdout_truncated"] is True
    assert len(sink.text()) < 5_000_000
    assert "the log ends here" in sink.text()


async def test_a27_a_fork_bomb_is_held_and_ended(docker):
    step = asyncio.create_task(
        docker.sh("(bomb() { bomb | bomb & }; bomb) & exec sleep 1000", resources={"cpu": "500m"})
    )
    (box,) = await docker.until(docker.left)
    await docker.until(lambda: inside(box["Id"]) > 900)
    grown = []
    for _ in range(20):
        grown.append(inside(box["Id"]))
        await asyncio.sleep(0.1)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert max(grown) <= 1024
    await docker.until(lambda: not docker.left() and inside(box["Id"]) == 0)


def inside(container):
    """How many processes of the host are in it."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        with suppress(OSError):
            found += f"libpod-{container}" in path.read_text()
    return found


async def test_a27_a_grandchild_ends_with_the_command(docker):
    mark = "1234567"
    result = await docker.sh(f"nohup setsid sleep {mark} >/dev/null 2>&1 & echo begun")
    assert result.outputs["stdout"] == "begun\n"
    await docker.until(lambda: not [pid for pid in processes() if mark in pid])


def processes():
    return [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]


async def test_a_cancel_asks_first_and_then_kills(docker, podman_service):
    """The list of containers before and after."""
    step = asyncio.create_task(docker.sh("trap 'echo asked; exit 0' TERM; echo begun; while true; do sleep 0.1; done"))
    await docker.until(lambda: "begun" in docker.sink.text())
    before = [(box["State"], box["Labels"]["org.orchestration.step"]) for box in podman_service.containers()]
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert before == [("running", "fetch")]
    assert podman_service.containers() == []


async def test_a_cancel_before_there_is_a_container(docker):
    step = asyncio.create_task(docker.sh("sleep 1000"))
    await asyncio.sleep(0)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    await asyncio.sleep(1)
    assert docker.left() == []


async def test_an_image_whose_registry_is_not_reached(docker):
    error = (await docker.run("true", image="registry.invalid/nothing:1")).error
    assert (error.type, error.retryable) == ("connection", True)
    assert "registry.invalid" in error.message
    assert "pulling registry.invalid/nothing:1" in docker.sink.text("stderr")


async def test_an_image_is_pulled_with_the_credentials_of_the_step(docker, rootfs, podman_service):
    with registry.serving(rootfs, username="alice", password="her password") as image:
        refused = (await docker.run(image=image)).error
        assert (refused.type, refused.retryable) == ("invalid", False)
        assert "`registry`" in refused.message
        wrong = (await docker.run(image=image, registry={"username": "alice", "password": "no"})).error
        assert wrong.type == "invalid"
        unknown = image.replace("/tool:", "/other:")
        alice = {"username": "alice", "password": "her password"}
        assert (await docker.run(image=unknown, registry=alice)).error.type == "invalid"
        result = await docker.run(image=image, registry=alice)
        assert result.outputs["stdout"] == "from the registry\n"
        assert "her password" not in docker.sink.text()
        podman_service.run("rmi", image)


async def test_an_absent_engine_is_said_before_anything_is_tried(sink, tmp_path):
    options = Options(
        work_dir=tmp_path, container_runtime="docker", docker_host=f"unix://{tmp_path}/none.sock", installation="x"
    )
    runner = Runner(ContainerExecutor(options), options, sink, "any", list)
    error = (await runner.run("true")).error
    assert (error.type, error.retryable) == ("unavailable", True)
    for word in ("engine unavailable", f"{tmp_path}/none.sock", "DOCKER_HOST", "podman system service"):
        assert word in error.message
    assert not status(options).available


async def test_an_engine_that_goes_and_comes_back(sink, tmp_path, caplog):
    """Its service is killed under a running container: the step fails, and the next sweep removes the container."""
    try:
        context = podman.running()
        service = context.__enter__()
    except podman.NotInstalled as error:
        pytest.skip(str(error))
    try:
        options = Options(
            work_dir=tmp_path, container_runtime="docker", docker_host=service.host, installation="comes-back"
        )
        executor = ContainerExecutor(options)
        runner = Runner(executor, options, sink, podman.IMAGE, service.containers)
        step = asyncio.create_task(runner.sh("echo begun; sleep 1000"))
        await runner.until(lambda: sink.text("stdout") == "begun\n")
        service.process.send_signal(signal.SIGKILL)
        service.process.wait()
        error = (await step).error
        assert (error.type, error.retryable) == ("connection", True)
        again = (await runner.run("true")).error
        assert again.type == "unavailable"
        assert len(service.containers()) == 1
        with service.again():
            (found,) = orphans.found(options)
            assert (found.task_key, found.attempt) == ("0190b6a0-0000-7000-8000-000000000001", 1)
            assert orphans.remove(options, [found]) == 1
            assert service.containers() == []
            assert (await runner.run("true")).error is None
        await executor.close()
    finally:
        context.__exit__(None, None, None)


async def test_the_sweep_sees_its_own_installation_only(docker, podman_service):
    labels = ["--label", f"{INSTALLATION}=another", "--label", "org.orchestration.attempt=1"]
    podman_service.run("create", "--name", "anothers", *labels, podman.IMAGE, "true")
    podman_service.run("create", "--name", "nobodys", podman.IMAGE, "true")
    step = asyncio.create_task(docker.sh("sleep 1000", attempt=4))
    found = await docker.until(lambda: orphans.found(docker.options))
    assert [(box.task_key, box.attempt) for box in found] == [("0190b6a0-0000-7000-8000-000000000001", 4)]
    assert orphans.remove(docker.options, found) == 1
    assert (await step).error, "its container was taken from under it: it ends, and is not told as done"
    podman_service.run("rm", "anothers", "nobodys")


async def test_caches_are_found_by_their_labels_and_one_in_use_is_not_removed(docker, podman_service):
    """Of this installation only, whatever the name; whoever made a volume with our name and no label keeps it."""
    ours = docker.options
    podman_service.run(
        "volume", "create", "--label", f"{INSTALLATION}=another", "--label", f"{WORKFLOW}=daily", "theirs"
    )
    nobodys = f"orchestration-{ours.installation[:12]}-daily.unlabelled"
    podman_service.run("volume", "create", nobodys)
    name = token_hex(4)
    used, free = ({"name": f"{name}-{which}", "target": f"/{which}"} for which in ("used", "free"))

    def found():
        return {one.name.rpartition("-")[2]: one for one in caches.found(ours) if name in one.name}

    assert (await docker.sh("echo kept > /free/file", caches=[used, free])).error is None
    assert {which: one.workflow for which, one in found().items()} == {"used": "daily", "free": "daily"}
    assert not {one.name for one in caches.found(ours)} & {"theirs", nobodys}
    step = asyncio.create_task(docker.sh("echo begun; sleep 1000", caches=[used], attempt=2))
    await docker.until(lambda: "begun" in docker.sink.text("stdout"))
    assert caches.remove(ours, found().values()) == 1
    assert set(found()) == {"used"}
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert caches.remove(ours, [*found().values(), *found().values()]) == 1, "and one that is gone is no error"
    assert found() == {}
    left = podman_service.run("volume", "ls", "--quiet").split()
    assert {"theirs", nobodys} <= set(left)
    podman_service.run("volume", "rm", "theirs", nobodys)


def test_the_status_tells_the_engines_version(podman_service, docker):
    seen = status(docker.options)
    assert (seen.runtime, seen.available, seen.engine) == ("docker", True, "Podman Engine")
    assert seen.version.startswith("4.") or seen.version.startswith("5.")
    assert seen.api_version


def test_docker_is_chosen_where_its_socket_answers(podman_service, tmp_path):
    assert answers(podman_service.host)
    assert chosen("", dagger_port=None, docker_host=podman_service.host) == "docker"
    assert chosen("", dagger_port=None, docker_host=f"unix://{tmp_path}/none.sock") == "none"
    assert chosen("", dagger_port=1, docker_host=podman_service.host) == "dagger"
    assert chosen("none", dagger_port=1, docker_host=podman_service.host) == "none"


async def test_values_of_secrets_are_in_no_log_of_the_worker(docker, caplog):
    with caplog.at_level(logging.DEBUG):
        await docker.sh("exit 1", secrets={"TOKEN": "s3cr3t-value"})
    assert "s3cr3t-value" not in caplog.text
