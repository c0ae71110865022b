"""Container steps: checked in full, and answered with what to install until this version drives a runtime."""

import pytest
from pydantic import ValidationError

from apps.executors import Options, StepCall
from apps.executors.container import ContainerExecutor

FULL = {
    "image": "python:3.11-slim",
    "command": ["python", "-c", "print(1)"],
    "environment": {"LOG_LEVEL": "info"},
    "volumes": [{"source": "/srv/data", "target": "/data", "read_only": True}],
    "resources": {"cpu": "1", "memory": "512M"},
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


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        ("none", ["DAGGER_SESSION_PORT", "DAGGER_SESSION_TOKEN", "DOCKER_HOST", "Podman"]),
        ("dagger", ["dagger", "does not drive"]),
        ("docker", ["docker", "does not drive"]),
    ],
)
async def test_it_says_what_is_missing(tmp_path, sink, runtime, words):
    executor = ContainerExecutor(Options(process_steps="off", work_dir=tmp_path, container_runtime=runtime))
    error = (await executor.run(call(FULL), sink)).error
    assert (error.type, error.retryable) == ("unavailable", False)
    assert all(word in error.message for word in words)
    await executor.close()


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
        {"privileged": True},
    ],
)
async def test_what_makes_no_sense_is_refused(tmp_path, sink, change):
    with pytest.raises(ValidationError):
        ContainerExecutor.Config.model_validate({**FULL, **change})
    executor = ContainerExecutor(Options(process_steps="off", work_dir=tmp_path))
    error = (await executor.run(call({**FULL, **change}), sink)).error
    assert (error.type, error.retryable) == ("invalid", False)
