"""A container, on a real engine, is told of the very span that is sent for it."""

from apps.monitoring.tracing import around_attempt
from tests.unit.executors.conftest import sink  # noqa: F401
from tests.unit.executors.containers.conftest import docker, podman_service, volumes  # noqa: F401
from tests.unit.monitoring.test_executors import TRACE, call


async def test_a_container_is_told_of_its_exec(docker, receiver, received):  # noqa: F811
    with around_attempt(call("container", {}), TRACE) as attempt:
        result = await docker.run("env")
        attempt.finish(result)
    assert result.error is None
    spans = received()
    inner, step = spans["exec"], spans["run_step fetch"]
    assert (inner.trace_id.hex(), inner.parent_span_id) == (TRACE, step.span_id)
    assert f"TRACEPARENT=00-{TRACE}-{inner.span_id.hex()}-01" in result.outputs["stdout"].splitlines()
