"""Whether container steps can be performed here, by which engine of which version, and if not what to do."""

from contextlib import closing
from dataclasses import dataclass

from apps.executors.container import engine
from apps.executors.container.executor import NOTHING_RUNS
from apps.executors.container.work import NotPerformed
from apps.executors.options import Options

ASK_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """`runtime` is dagger, docker or none; what is not known is empty. `reason` says what is so, and the fix."""

    runtime: str
    available: bool
    reason: str
    engine: str = ""
    version: str = ""
    api_version: str = ""
    sdk_version: str = ""


def status(options: Options) -> Status:
    """Ask the engine; blocks for some seconds at most, and raises nothing."""
    if options.container_runtime == "none":
        return Status(runtime="none", available=False, reason=NOTHING_RUNS)
    try:
        return _dagger(options) if options.container_runtime == "dagger" else _docker(options)
    except NotPerformed as error:
        sdk = engine.sdk_version() if options.container_runtime == "dagger" else ""
        return Status(runtime=options.container_runtime, available=False, reason=str(error), sdk_version=sdk)


def _dagger(options: Options) -> Status:
    seen = engine.look_now(options)
    return Status(
        runtime="dagger",
        available=True,
        reason=f"a Dagger engine answers at 127.0.0.1:{options.dagger_port}",
        engine="Dagger",
        version=seen.version,
        sdk_version=engine.sdk_version(),
    )


def _docker(options: Options) -> Status:
    from apps.executors.container.choice import host
    from apps.executors.container.docker import connect, unavailable

    try:
        with closing(connect(options.docker_host, seconds=ASK_SECONDS)) as client:
            told = client.version()
    except Exception as error:
        raise unavailable(options.docker_host, error) from error
    parts = told.get("Components") or [{}]
    return Status(
        runtime="docker",
        available=True,
        reason=f"a Docker-compatible API answers at {host(options.docker_host)}",
        engine=str(parts[0].get("Name") or "Docker Engine")[:100],
        version=str(told.get("Version") or "")[:100],
        api_version=str(told.get("ApiVersion") or "")[:100],
    )
