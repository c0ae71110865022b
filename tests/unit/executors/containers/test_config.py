"""What a container step may say, and what it is told where nothing here runs it."""

import pytest
from pydantic import ValidationError

from apps.executors import Options, StepCall
from apps.executors.container import ContainerExecutor, status
from apps.executors.container.config import memory_bytes, nano_cpus

FULL = {
    "image": "python:3.11-slim",
    "command": ["python", "-c", "print(1)"],
    "environment": {"LOG_LEVEL": "info"},
    "volumes": [{"source": "/srv/data", "target": "/data", "read_only": True}],
    "caches": [{"name": "pip", "target": "/var/cache/pip"}],
    "resources": {"cpu": "1", "memory": "512M"},
    "user": "1000:1000",
    "network": "none",
    "registry": {"username": "alice", "password": "secret"},
    "engine_cache": True,
}


def call(config) -> StepCall:
    return StepCall(
        kind="container",
        config=config,
        attempt=1,
        task_key="task",
        attempt_key="task:1",
        workflow_id="daily",
        execution_id="run-1",
        step_id="fetch",
    )


async def test_it_says_what_is_missing(tmp_path, sink):
    executor = ContainerExecutor(Options(work_dir=tmp_path))
    error = (await executor.run(call(FULL), sink)).error
    assert (error.type, error.retryable) == ("unavailable", False)
    for word in ("CONTAINER_RUNTIME", "DAGGER_SESSION_PORT", "DAGGER_SESSION_TOKEN", "DOCKER_HOST", "Podman"):
        assert word in error.message
    assert status(Options(work_dir=tmp_path)).reason in error.message
    await executor.close()


async def test_a_volume_needs_a_root(tmp_path, sink):
    executor = ContainerExecutor(Options(work_dir=tmp_path, container_runtime="docker"))
    error = (await executor.run(call(FULL), sink)).error
    assert (error.type, error.retryable) == ("refused", False)
    assert "VOLUME_ROOTS" in error.message


@pytest.mark.parametrize(
    ("text", "number"),
    [("67108864", 64 << 20), ("512M", 512_000_000), ("512MB", 512_000_000), ("1.5Gi", 3 << 29), ("64MiB", 64 << 20)],
)
def test_memory_in_bytes(text, number):
    assert memory_bytes(text) == number


@pytest.mark.parametrize(
    ("text", "number"), [("1", 10**9), ("0.5", 5 * 10**8), ("250m", 25 * 10**7), ("16", 16 * 10**9)]
)
def test_processors(text, number):
    assert nano_cpus(text) == number


@pytest.mark.parametrize(
    "config", [FULL, {"image": "a"}, {"image": "ghcr.io/a/b@sha256:0f", "environment": {}, "volumes": []}]
)
def test_what_a_definition_may_say_is_accepted(config):
    ContainerExecutor.Config.model_validate(config)


@pytest.mark.parametrize(
    "change",
    [
        {"image": ""},
        {"image": "a b"},
        {"image": None},
        {"command": []},
        {"command": "echo hello"},
        {"environment": {"1A": "x"}},
        {"volumes": [{"source": "/a"}]},
        {"volumes": [{"source": "/a", "target": "b"}]},
        {"resources": {"gpu": "1"}},
        {"resources": {"memory": "much"}},
        {"resources": {"memory": "1K"}},
        {"resources": {"cpu": "0"}},
        {"volumes": [{"source": "data", "target": "/data"}]},
        {"volumes": [{"source": "/srv", "target": "/"}]},
        {"volumes": [{"source": "/srv", "target": "/data/../etc"}]},
        {"volumes": [{"source": "/srv", "target": "/var/cache/pip/"}]},
        {"caches": [{"name": "../x", "target": "/x"}]},
        {"user": "-u"},
        {"network": "host"},
        {"registry": {"username": "alice"}},
        {"image": "--privileged"},
        {"privileged": True},
    ],
)
async def test_what_makes_no_sense_is_refused(tmp_path, sink, change):
    with pytest.raises(ValidationError):
        ContainerExecutor.Config.model_validate({**FULL, **change})
    executor = ContainerExecutor(Options(process_steps="off", work_dir=tmp_path))
    error = (await executor.run(call({**FULL, **change}), sink)).error
    assert (error.type, error.retryable) == ("invalid", False)
