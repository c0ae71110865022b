"""What the executor hands to a runtime, what it gets back, and how a runtime says that it could not."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from apps.executors.container.config import Cache, Registry, Volume
from apps.executors.failure import REGISTRY_UNREACHED
from apps.executors.types import Stream

Receive = Callable[[Stream, bytes], None]
"""Takes what a container wrote, in pieces of any length; called in the event loop's thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One container to be run once. `environment` holds no secret; `identity` are variables that differ by attempt.

    `memory` is in bytes and `nano_cpus` in billionths of a processor, None where there is no limit. The sources of
    `volumes` are real paths beneath the roots that are allowed. `labels` tell whose container it is. What it leaves in
    `ARTIFACTS`, at most `max_artifact_bytes`, is brought into the directory `artifacts` of the host, which is made for
    it; empty: it is let go of.
    """

    image: str
    command: tuple[str, ...] | None
    environment: Mapping[str, str]
    identity: Mapping[str, str]
    secrets: Mapping[str, str]
    stdin: bytes
    volumes: tuple[Volume, ...] = ()
    caches: tuple[Cache, ...] = ()
    memory: int | None = None
    nano_cpus: int | None = None
    user: str | None = None
    network: bool = True
    registry: Registry | None = None
    engine_cache: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    artifacts: str = ""
    max_artifact_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a container ended. `out_of_memory` is None where the runtime does not tell."""

    exit_code: int
    out_of_memory: bool | None = None


class NotPerformed(Exception):
    """There is no exit code to tell of: `type` is one of `StepError.type`, the text says what happened and the fix."""

    def __init__(self, type: str, message: str, *, retryable: bool = True, exception: str = "") -> None:  # noqa: A002
        super().__init__(message)
        self.type = type
        self.retryable = retryable
        self.exception = exception


def registry_unreached(what: str) -> NotPerformed:
    """An image was to be pulled, and its registry did not answer."""
    return NotPerformed("connection", f"its registry was not reached: {what}", exception=REGISTRY_UNREACHED)


class Runtime(Protocol):
    """What runs containers."""

    async def perform(self, work: Work, receive: Receive) -> Ended:
        """Run it to its end. A cancel stops and removes it before it is raised. Raises NotPerformed.

        `NotPerformed("unavailable", …)` is raised before anything was tried.
        """

    async def close(self) -> None:
        """Let go of connections."""
