"""Runs containers on a Dagger engine, by its SDK: one isolated connection a step, and nothing is sent twice.

The SDK is imported with the first step, which takes two seconds, and with each connection it builds the engine's whole
schema, which takes a good part of one: so it has a thread and an event loop of its own, and the worker's goes on.
"""

import asyncio
import logging
import os
import secrets
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from apps.executors.container import engine
from apps.executors.container.config import ARTIFACTS, Volume
from apps.executors.container.labels import cache_of
from apps.executors.container.threads import apart
from apps.executors.container.work import Ended, NotPerformed, Receive, Work, registry_unreached
from apps.executors.options import Options
from apps.executors.types import Stream

if TYPE_CHECKING:
    from dagger import Client, Container, Directory, ExecError

CONNECT_SECONDS = 30.0
"""How long the engine is given to answer the SDK's introspection."""

_NEVER = ("executable file not found", "no such file or directory", "permission denied")
_NO_IMAGE = ("failed to resolve image", "failed to resolve source metadata", "pull access denied", "manifest unknown")
_UNREACHED = ("no such host", "connection refused", "i/o timeout", "timeout", "server misbehaving")
_importing = threading.Lock()


class DaggerRuntime:
    """The session that DAGGER_SESSION_PORT and DAGGER_SESSION_TOKEN name."""

    def __init__(self, options: Options) -> None:
        self._options = options

    async def perform(self, work: Work, receive: Receive) -> Ended:
        """Run it to its end; the streams come with the end. Raises NotPerformed.

        A cancel closes the connection, and the engine ends what was asked for over it.
        """
        if not work.network:
            message = "a Dagger engine has no containers without a network: leave `network` out, or run it on Docker"
            raise NotPerformed("refused", message, retryable=False)
        if limits := _limits(work):
            named = " and ".join(f"`{name}`" for name in limits)
            message = f"a Dagger engine has no limits for one step: leave {named} out, or run it on Docker"
            raise NotPerformed("refused", message, retryable=False)
        if files := [volume.source for volume in work.volumes if not Path(volume.source).is_dir()]:
            message = f"a Dagger engine mounts directories only, and {files[0]} is none: name the one that it is in"
            raise NotPerformed("invalid", message, retryable=False)
        await engine.look(self._options)
        loop = asyncio.get_running_loop()

        def receive_from_there(stream: Stream, data: bytes) -> None:
            loop.call_soon_threadsafe(receive, stream, data)

        return await apart(lambda: self._perform_there(work, receive_from_there))

    async def _perform_there(self, work: Work, receive: Receive) -> Ended:
        _imported()
        async with AsyncExitStack() as stack:
            client = await self._connected(stack)
            return await _run(client, work, receive)

    async def close(self) -> None:
        """Nothing is kept: a connection ends with its step."""

    async def _connected(self, stack: AsyncExitStack) -> "Client":
        import dagger

        # The SDK looks for its session in the environment only; without one it would download an engine.
        os.environ["DAGGER_SESSION_PORT"] = str(self._options.dagger_port)
        os.environ["DAGGER_SESSION_TOKEN"] = self._options.dagger_token
        config = dagger.Config(
            retry=dagger.Retry(connect=True, execute=False),
            timeout=dagger.Timeout(None, connect=engine.ANSWERS_WITHIN),
        )
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await stack.enter_async_context(dagger.Connection(config))
        except (dagger.DaggerError, TimeoutError) as error:
            raise engine.unavailable(self._options, f"{error or type(error).__name__}") from error


def _limits(work: Work) -> list[str]:
    given = {"resources.cpu": work.nano_cpus, "resources.memory": work.memory}
    return [name for name, value in given.items() if value is not None]


async def _run(client: "Client", work: Work, receive: Receive) -> Ended:
    import dagger

    try:
        return await _performed(client, work, receive)
    except dagger.ExecError as error:
        return _ended_otherwise(error, receive)
    except dagger.TransportError as error:
        message = (
            f"the connection to the engine was lost; the container may have run to its end: {engine.shown(str(error))}"
        )
        raise NotPerformed("connection", message) from error
    except dagger.InvalidQueryError as error:
        message = f"engine unavailable: it does not understand this SDK ({error}); {engine.SAME_VERSION}"
        raise NotPerformed("unavailable", message, retryable=False) from error
    except dagger.QueryError as error:
        raise _told(str(error)) from error


async def _performed(client: "Client", work: Work, receive: Receive) -> Ended:
    from dagger import ReturnType

    sources = [await _read(client, volume) for volume in work.volumes]
    container = _made_ready(client, work, sources)
    container = container.with_exec(
        list(work.command or ()),
        use_entrypoint=True,
        stdin=work.stdin.decode("utf-8", "replace"),
        expect=ReturnType.ANY,
    )
    # It runs here, once; what follows asks for what it left.
    container = await container.sync()
    exit_code = await container.exit_code()
    receive("stdout", (await container.stdout()).encode())
    receive("stderr", (await container.stderr()).encode())
    for volume, source in zip(work.volumes, sources, strict=True):
        if not volume.read_only:
            # What changed, and no more: another step may have written there meanwhile.
            await source.diff(container.directory(volume.target)).export(volume.source)
    if work.artifacts:
        left = container.directory(ARTIFACTS)
        if await left.entries():
            await left.export(work.artifacts)
    return Ended(exit_code=exit_code)


async def _read(client: "Client", volume: Volume) -> "Directory":
    """The directory as it is now; another step may have written there since the engine last saw it."""
    return await client.host().directory(volume.source, no_cache=True).sync()


def _made_ready(client: "Client", work: Work, sources: Sequence["Directory"]) -> "Container":
    container = client.container()
    if work.registry is not None:
        password = client.set_secret(_name("registry"), work.registry.password)
        container = container.with_registry_auth(work.image, work.registry.username, password)
    container = container.from_(work.image)
    for name, value in work.environment.items():
        container = container.with_env_variable(name, value)
    for name, value in work.secrets.items():
        container = container.with_secret_variable(name, client.set_secret(_name(name), value))
    for name, value in work.identity.items():
        # They differ with each attempt, so that an engine never answers from its cache; unless the step asks it to.
        if work.engine_cache:
            container = container.with_volatile_variable(name, value)
        else:
            container = container.with_env_variable(name, value)
    for volume, source in zip(work.volumes, sources, strict=True):
        container = container.with_mounted_directory(volume.target, source, read_only=volume.read_only)
    if work.artifacts:
        place = PurePosixPath(ARTIFACTS)
        room = client.directory().with_new_directory(place.name, permissions=0o777)  # whoever the command runs as
        container = container.with_mounted_directory(str(place.parent), room)
    for cache in work.caches:
        kept = client.cache_volume(cache_of(work.labels, cache.name))
        container = container.with_mounted_cache(cache.target, kept)
    return container.with_user(work.user) if work.user is not None else container


def _name(of: str) -> str:
    """A name for a secret that no other secret of the engine's session has."""
    return f"{of}-{secrets.token_hex(8)}"


def _ended_otherwise(error: "ExecError", receive: Receive) -> Ended:
    """An exit code that the engine takes for an error whatever is expected: 128 to 191, so those of signals."""
    receive("stdout", error.stdout.encode())
    receive("stderr", error.stderr.encode())
    return Ended(exit_code=error.exit_code)


def _told(text: str) -> NotPerformed:
    lowered, shown = text.lower(), engine.shown(text)
    if any(word in lowered for word in _NO_IMAGE):
        if any(word in lowered for word in _UNREACHED):
            return registry_unreached(shown)
        message = f"it cannot be pulled: {shown}. Check its name, or give the step a `registry` that may pull it"
        return NotPerformed("invalid", message, retryable=False)
    if any(word in lowered for word in _NEVER):
        return NotPerformed("invalid", f"the container cannot be started: {shown}", retryable=False)
    return NotPerformed("error", f"the engine could not run the container: {shown}")


def _imported() -> Any:
    """The SDK, without what it would do to this process: exporters of its own, a format for its log lines."""
    with _importing:
        import dagger
        from dagger import telemetry

        # At DEBUG these print whole queries, and with them the values of secrets.
        for name in ("gql", "gql.transport.httpx", "gql.client"):
            logging.getLogger(name).setLevel(logging.WARNING)
        before = os.environ.get("OTEL_SDK_DISABLED")
        os.environ["OTEL_SDK_DISABLED"] = "true"
        try:
            telemetry.initialize()  # it does so once in a process
        finally:
            if before is None:
                del os.environ["OTEL_SDK_DISABLED"]
            else:
                os.environ["OTEL_SDK_DISABLED"] = before
        return dagger
