"""Container steps on real runtimes: Docker's API by a private Podman, Dagger by a stand-in that really runs commands.

Where DAGGER_SESSION_PORT and DAGGER_SESSION_TOKEN name a session when the tests begin, what is asked of both runtimes
is asked of that engine too.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from apps.executors import Options, StepCall, StepResult
from apps.executors.container import ContainerExecutor
from apps.executors.container.engine import sdk_version
from tests.support import dagger_engine, podman
from tests.support.dagger_engine import Engine, Image
from tests.support.podman import IMAGE, Podman

SESSION = os.environ.get("DAGGER_SESSION_PORT", ""), os.environ.get("DAGGER_SESSION_TOKEN", "")
PATIENCE = 180.0
RUNTIMES = ["docker", "dagger", *(["a real Dagger engine"] if all(SESSION) else [])]
INSTALLATION = "installation-of-tests"


def missing(error: Exception) -> None:
    """Skip where somebody works without these programs; fail where everything must be there."""
    if os.environ.get("CI") == "true":
        raise error
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def podman_service() -> Iterator[Podman]:
    try:
        with podman.running() as service:
            yield service
    except podman.NotInstalled as error:
        missing(error)


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory) -> Path:
    try:
        return podman.make_rootfs(tmp_path_factory.mktemp("rootfs"))
    except podman.NotInstalled as error:
        missing(error)
        raise


@pytest.fixture
def engine(rootfs) -> Iterator[Engine]:
    """A stand-in of the SDK's own version, with nothing cached."""
    image = Image(rootfs=rootfs, environment={"FROM_IMAGE": "yes"}, command=["env"])
    private = Image(rootfs=rootfs, auth=("alice", "her password"))
    try:
        with dagger_engine.running({IMAGE: image, "registry.test/private:1": private}) as running:
            running.version = f"v{sdk_version()}"
            yield running
    except podman.NotInstalled as error:
        missing(error)


@dataclass
class Runner:
    """Runs container steps and shows what is left of them."""

    executor: ContainerExecutor
    options: Options
    sink: Any
    image: str
    left: Callable[[], list[Any]]

    def call(
        self,
        command: list[str] | None,
        *,
        stdin: bytes = b"",
        attempt: int = 1,
        artifacts: Path | None = None,
        **config: Any,
    ) -> StepCall:
        given = {"image": self.image, **config}
        if command is not None:
            given["command"] = command
        return StepCall(
            kind="container",
            config=given,
            stdin=stdin,
            attempt=attempt,
            task_key="0190b6a0-0000-7000-8000-000000000001",
            attempt_key=f"0190b6a0-0000-7000-8000-000000000001:{attempt}",
            workflow_id="daily",
            execution_id="run-1",
            step_id="fetch",
            artifacts="" if artifacts is None else str(artifacts),
        )

    async def run(self, *command: str, **given: Any) -> StepResult:
        """`await run("echo", "hello", environment={…})`; without words the image's own command."""
        return await self.executor.run(self.call(list(command) or None, **given), self.sink)

    async def sh(self, script: str, **given: Any) -> StepResult:
        return await self.run("sh", "-c", script, **given)

    async def until(self, holds: Callable[[], Any]) -> Any:
        """Wait for a condition, generously."""
        deadline = time.monotonic() + PATIENCE
        while not (found := holds()):
            assert time.monotonic() < deadline, "it did not come"
            await asyncio.sleep(0.05)
        return found


@pytest.fixture
def volumes(tmp_path) -> Path:
    """The directory beneath which volumes may be."""
    directory = tmp_path / "volumes"
    directory.mkdir()
    directory.chmod(0o777)
    return directory


@pytest.fixture
def docker(podman_service, sink, volumes, tmp_path) -> Iterator[Runner]:
    options = Options(
        work_dir=tmp_path / "work",
        container_runtime="docker",
        docker_host=podman_service.host,
        volume_roots=(volumes,),
        installation=INSTALLATION,
    )
    executor = ContainerExecutor(options)
    yield Runner(executor, options, sink, IMAGE, podman_service.containers)
    asyncio.run(executor.close())
    assert podman_service.containers() == [], "every container was removed"


@pytest.fixture
def dagger(engine, sink, volumes, tmp_path, monkeypatch) -> Iterator[Runner]:
    options = dagger_options(engine.port, engine.token, volumes, tmp_path, monkeypatch)
    executor = ContainerExecutor(options)
    yield Runner(executor, options, sink, IMAGE, lambda: list(engine.processes))
    asyncio.run(executor.close())


@pytest.fixture(params=RUNTIMES)
def runner(request, sink, volumes, tmp_path, monkeypatch) -> Iterator[Runner]:
    """Each of the runtimes."""
    if request.param in ("docker", "dagger"):
        yield request.getfixturevalue(request.param)
        return
    options = dagger_options(int(SESSION[0]), SESSION[1], volumes, tmp_path, monkeypatch)
    executor = ContainerExecutor(options)
    yield Runner(executor, options, sink, "busybox:1.36", list)
    asyncio.run(executor.close())


def dagger_options(port: int, token: str, volumes: Path, tmp_path: Path, monkeypatch: Any) -> Options:
    # The SDK takes its session from the environment, which is to be as it was afterwards.
    monkeypatch.setenv("DAGGER_SESSION_PORT", str(port))
    monkeypatch.setenv("DAGGER_SESSION_TOKEN", token)
    return Options(
        work_dir=tmp_path / "work",
        container_runtime="dagger",
        dagger_port=port,
        dagger_token=token,
        volume_roots=(volumes,),
        installation=INSTALLATION,
    )
