"""What runs container steps here, and whether it can: the answer of `/monitoring/dagger/status`."""

from dataclasses import dataclass

from django.conf import settings

_REASONS = {
    "none": "CONTAINER_RUNTIME is none: a container step fails with the error type `unavailable`",
    "dagger": "this version does not talk to a Dagger engine: a container step fails with the error type `unavailable`",
    "docker": "this version does not talk to a Docker API: a container step fails with the error type `unavailable`",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """`runtime` is the setting `CONTAINER_RUNTIME`: dagger, docker or none."""

    runtime: str
    available: bool
    reason: str


def status() -> Runtime:
    """The container runtime that the settings name; `apps.executors.container` performs with none of them yet."""
    runtime = str(settings.CONTAINER_RUNTIME)
    return Runtime(runtime=runtime, available=False, reason=_REASONS[runtime])
