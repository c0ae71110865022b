"""The real Dagger SDK over the wire, against a stand-in with the SDK's schema: what it sends, and what goes wrong."""

import ast
import asyncio
import inspect
import logging
import os
import re
from dataclasses import replace

import pytest
from graphql import GraphQLObjectType

from apps.executors.container import ContainerExecutor, status
from apps.executors.container import dagger as module
from apps.executors.container.engine import sdk_version
from tests.support import dagger_schema
from tests.support.dagger_engine import PLAYED, Fault

UNAVAILABLE = ("unavailable", True)
LOST = ("connection", True)


@pytest.mark.parametrize(
    ("word", "how", "expected", "ran"),
    [
        ("version", "drop_before", UNAVAILABLE, 0),
        ("version", "status", UNAVAILABLE, 0),
        ("version", "malformed", UNAVAILABLE, 0),
        ("version", "graphql", UNAVAILABLE, 0),
        ("__schema", "drop_before", UNAVAILABLE, 0),
        ("__schema", "drop_after", UNAVAILABLE, 0),
        ("__schema", "status", UNAVAILABLE, 0),
        ("__schema", "malformed", UNAVAILABLE, 0),
        ("__schema", "graphql", UNAVAILABLE, 0),
        ("sync", "drop_before", LOST, 0),
        ("sync", "drop_after", LOST, 1),
        ("sync", "status", LOST, 0),
        ("sync", "malformed", LOST, 0),
        ("sync", "graphql", ("error", True), 0),
        ("exitCode", "drop_after", LOST, 1),
        ("stdout", "malformed", LOST, 1),
        ("stderr", "status", LOST, 1),
    ],
)
async def test_whatever_goes_wrong_is_told_and_nothing_is_sent_twice(dagger, engine, word, how, expected, ran):
    engine.faults = [Fault(word=word, how=how)]
    error = (await dagger.run("echo", "hello")).error
    assert (error.type, error.retryable) == expected
    assert engine.faults[0].times == 0, "the fault was met"
    assert len(engine.ran) == ran
    assert "Traceback" not in error.message
    assert (await dagger.run("echo", "hello", attempt=2)).outputs["stdout"] == "hello\n"


async def test_what_is_slow_is_waited_for(dagger, engine):
    engine.faults = [Fault(word=word, how="slow", seconds=0.5) for word in ("__schema", "sync", "stdout")]
    assert (await dagger.run("echo", "hello")).outputs["stdout"] == "hello\n"


async def test_a_cancel_while_the_engine_is_slow(dagger, engine):
    engine.faults = [Fault(word="__schema", how="slow", seconds=60.0)]
    step = asyncio.create_task(dagger.run("echo", "hello"))
    await dagger.until(lambda: any("__schema" in query for query in engine.queries))
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert engine.ran == []


async def test_a_cancel_breaks_the_request_off(dagger, engine):
    step = asyncio.create_task(dagger.sh("sleep 1000 & sleep 1000"))
    before = await dagger.until(lambda: list(engine.processes))
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    await dagger.until(lambda: engine.broken_off == 1 and not engine.processes)
    assert len(before) == 1


@pytest.mark.parametrize("version", ["v0.1.0", "v1.0.0"])
async def test_another_version_is_refused_with_what_to_do(dagger, engine, version):
    engine.version = version
    error = (await dagger.run("true")).error
    assert (error.type, error.retryable) == ("unavailable", False)
    for word in (version, sdk_version(), "pip install dagger-io=="):
        assert word in error.message
    assert engine.ran == []


@pytest.mark.parametrize("version", ["v{}", "{}", "v{}-dev-abc", "devel"])
async def test_the_same_version_is_taken_however_it_is_written(dagger, engine, version):
    engine.version = version.format(sdk_version())
    assert (await dagger.run("true")).error is None


async def test_a_token_that_is_refused(dagger, engine):
    options = replace(dagger.options, dagger_token="another")
    dagger.executor = ContainerExecutor(options)
    error = (await dagger.run("true")).error
    assert (error.type, error.retryable) == ("unavailable", False)
    assert "DAGGER_SESSION_TOKEN" in error.message
    assert "another" not in error.message


async def test_an_absent_engine_is_said_before_anything_is_tried(dagger, engine, unused_tcp_port):
    dagger.executor = ContainerExecutor(replace(dagger.options, dagger_port=unused_tcp_port))
    error = (await dagger.run("true")).error
    assert (error.type, error.retryable) == ("unavailable", True)
    for word in ("engine unavailable", str(unused_tcp_port), "dagger run make run", "DAGGER_SESSION_PORT"):
        assert word in error.message


async def test_no_session_downloads_no_engine(dagger):
    dagger.executor = ContainerExecutor(replace(dagger.options, dagger_port=None, dagger_token=""))
    error = (await dagger.run("true")).error
    assert (error.type, error.retryable) == ("unavailable", False)
    assert "DAGGER_SESSION_PORT" in error.message


async def test_each_attempt_really_runs(dagger, engine):
    for attempt in (1, 2, 3):
        assert (await dagger.run("echo", "hello", attempt=attempt)).error is None
    assert len(engine.ran) == 3


async def test_the_engine_may_answer_from_its_cache_where_the_step_says_so(dagger, engine):
    for attempt in (1, 2, 3):
        result = await dagger.sh("echo hello; env | grep -c ATTEMPT_KEY", attempt=attempt, engine_cache=True)
        assert result.outputs["stdout"] == "hello\n1\n"
    assert len(engine.ran) == 1


async def test_a_step_is_executed_by_one_request(dagger, engine):
    await dagger.run("echo", "hello")
    assert sum("withExec" in query for query in engine.queries) == 1


async def test_the_stand_in_sees_what_is_sent_twice(dagger, engine, monkeypatch):
    """The SDK's own default sends an exec again when its answer is lost. So what the other tests prove can fail."""
    import dagger as sdk

    monkeypatch.setattr(sdk, "Retry", lambda **_: sdk.client._config.Retry())
    engine.faults = [Fault(word="sync", how="drop_after")]
    await dagger.run("echo", "hello", engine_cache=False)
    assert sum("withExec" in query for query in engine.queries) > 1


async def test_secrets_are_told_to_the_engine_as_secrets_only(dagger, engine, caplog):
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("gql.transport.httpx").setLevel(logging.NOTSET)
        result = await dagger.sh(
            "exit ${#TOKEN}",
            secrets={"TOKEN": "s3cr3t-value"},
            registry={"username": "alice", "password": "her password"},
        )
    assert result.error.exit_code == len("s3cr3t-value")
    holding = [query for query in engine.queries if "s3cr3t-value" in query or "her password" in query]
    assert len(holding) == 2
    assert all("setSecret" in query and "withExec" not in query for query in holding)
    assert "s3cr3t-value" not in caplog.text
    assert "her password" not in caplog.text
    assert "s3cr3t-value" not in result.error.message


async def test_credentials_reach_the_registry(dagger):
    image = "registry.test/private:1"
    refused = (await dagger.run("echo", "hello", image=image)).error
    assert (refused.type, refused.retryable) == ("invalid", False)
    assert "registry" in refused.message
    registry = {"username": "alice", "password": "her password"}
    assert (await dagger.run("echo", "hello", image=image, registry=registry, attempt=2)).error is None


async def test_what_a_dagger_engine_cannot_do(dagger, engine, volumes):
    (volumes / "file").touch()
    error = (await dagger.run("true", volumes=[{"source": f"{volumes}/file", "target": "/file"}])).error
    assert (error.type, error.retryable) == ("invalid", False)
    error = (await dagger.run("true", network="none")).error
    assert (error.type, error.retryable) == ("refused", False)
    for limits in ({"cpu": "1"}, {"memory": "512M"}, {"cpu": "1", "memory": "512M"}):
        error = (await dagger.run("true", resources=limits)).error
        assert (error.type, error.retryable) == ("refused", False)
        assert all(f"`resources.{name}`" in error.message for name in limits)
    assert engine.ran == []


async def test_the_sdk_changes_neither_logging_nor_tracing_of_the_process(dagger, engine, monkeypatch):
    from opentelemetry import trace

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    provider, factory = trace.get_tracer_provider(), logging.getLogRecordFactory()
    assert (await dagger.run("true")).error is None
    assert trace.get_tracer_provider() is provider
    assert logging.getLogRecordFactory() is factory
    assert "OTEL_SDK_DISABLED" not in os.environ


async def test_the_workers_loop_goes_on_meanwhile(dagger):
    """Importing the SDK and building the engine's schema take seconds of computing: not on this loop."""
    longest, ending = 0.0, False

    async def tick():
        nonlocal longest
        loop = asyncio.get_running_loop()
        while not ending:
            before = loop.time()
            await asyncio.sleep(0.01)
            longest = max(longest, loop.time() - before)

    ticking = asyncio.create_task(tick())
    began = asyncio.get_running_loop().time()
    assert (await dagger.run("sleep", "1")).error is None
    ending = True
    await ticking
    assert longest < (asyncio.get_running_loop().time() - began) / 2


def test_the_status_tells_both_versions(dagger, engine):
    seen = status(dagger.options)
    assert (seen.runtime, seen.available, seen.engine) == ("dagger", True, "Dagger")
    assert (seen.version, seen.sdk_version) == (f"v{sdk_version()}", sdk_version())
    engine.version = "v0.1.0"
    seen = status(dagger.options)
    assert (seen.available, seen.sdk_version) == (False, sdk_version())
    assert "v0.1.0" in seen.reason


# -- drift: the SDK that is installed, and what is made of it here ----------------------------------------------------


def test_every_field_that_the_stand_in_plays_is_one_of_the_sdk():
    for kind, fields in PLAYED.items():
        known = dagger_schema.schema().type_map[kind]
        assert isinstance(known, GraphQLObjectType)
        assert fields <= known.fields.keys()


def test_every_method_that_the_executor_calls_is_one_of_the_sdk():
    """Names and keywords of the calls on the SDK's objects, read off the executor's source."""
    import dagger as sdk

    tree = ast.parse(inspect.getsource(module))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    owners = (sdk.Container, sdk.Client, sdk.Host, sdk.Directory)
    checked = set()
    for call in calls:
        name = call.func.attr
        if not re.match(
            r"with_|from_$|sync$|exit_code$|stdout$|stderr$|export$|directory$|set_secret$|cache_volume$", name
        ):
            continue
        candidates = [getattr(owner, name) for owner in owners if hasattr(owner, name)]
        assert candidates, f"the SDK has no {name}"
        keywords = {keyword.arg for keyword in call.keywords}
        assert any(keywords <= set(inspect.signature(one).parameters) for one in candidates), name
        checked.add(name)
    assert len(checked) >= 15


def test_the_schema_is_whole():
    """As large as the API is known to be; a client generated in another form would show here."""
    types = dagger_schema.schema().type_map
    container = types["Container"]
    assert isinstance(container, GraphQLObjectType)
    assert len(types) > 100
    assert len(container.fields) > 60
    assert str(container.fields["withExec"].args["expect"].type) == "ReturnType"
    assert str(container.fields["withMountedDirectory"].args["source"].type) == "ID!"
    assert str(container.fields["sync"].type) == "ID!"


async def test_what_another_step_wrote_meanwhile_stays(dagger, volumes):
    """A directory is a copy on the engine: only what the command changed comes back."""
    (volumes / "theirs").write_text("before\n")
    (volumes / "deep").mkdir()
    shared = [{"source": str(volumes), "target": "/data"}]
    step = asyncio.create_task(dagger.sh("echo mine > /data/deep/mine; sleep 2", volumes=shared))
    await dagger.until(dagger.left)
    (volumes / "theirs").write_text("changed meanwhile\n")
    assert (await step).error is None
    assert (volumes / "theirs").read_text() == "changed meanwhile\n"
    assert (volumes / "deep" / "mine").read_text() == "mine\n"
