"""Runs containers through the API of Docker or Podman, by the library `docker`, which blocks: a thread a container."""

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from apps.executors.container.box import Box
from apps.executors.container.choice import host
from apps.executors.container.threads import Pouring, in_thread
from apps.executors.container.work import Ended, NotPerformed, Receive, Work
from apps.executors.options import Options
from apps.executors.spawn import uninterrupted

if TYPE_CHECKING:
    from docker import APIClient

logger = logging.getLogger(__name__)

CALL_SECONDS = 30
"""How long one call of the API may take, but for those that wait for a container or an image."""

GONE_WITHIN = 20.0
"""Seconds in which a container that is stopped must be gone; after that its removal is left to the sweep."""


class DockerRuntime:
    """One client for all containers of a worker."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._client: APIClient | None = None

    async def perform(self, work: Work, receive: Receive) -> Ended:
        """Run it to its end; streams come live. Raises NotPerformed."""
        client = await in_thread(self._connected)
        pouring = Pouring(receive)
        box = Box(client, work, pouring.pour)
        running = in_thread(box.run)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await uninterrupted(_destroy(box, running))
            raise
        finally:
            pouring.close()

    async def close(self) -> None:
        """Close the client's connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connected(self) -> "APIClient":
        """The client, whose other end has just answered."""
        try:
            if self._client is None:
                self._client = connect(self._options.docker_host)
            self._client.ping()
        except Exception as error:
            raise unavailable(self._options.docker_host, error) from error
        return self._client


def connect(docker_host: str, *, seconds: int = CALL_SECONDS) -> "APIClient":
    """A client for the API there. Raises docker.errors.DockerException where nothing answers."""
    from docker import APIClient

    return APIClient(base_url=host(docker_host), version="auto", timeout=seconds)


def unavailable(docker_host: str, error: Exception) -> NotPerformed:
    """Engine unavailable, with what to do."""
    where = host(docker_host)
    message = (
        f"engine unavailable: no Docker-compatible API answers at {where} ({type(error).__name__}). Start Docker, or "
        "`podman system service --time=0`, see that the worker's user may open the socket, or let DOCKER_HOST name "
        "another"
    )
    return NotPerformed("unavailable", message)


async def _destroy(box: Box, running: "asyncio.Future[Ended]") -> None:
    stopping = in_thread(box.stop)
    both: list[asyncio.Future[Any]] = [stopping, running]
    await asyncio.wait(both, timeout=GONE_WITHIN)
    for future in both:
        if future.done():
            with suppress(Exception):
                future.result()
    if not running.done():
        logger.warning("a container did not stop within %g s; it is left to the sweep", GONE_WITHIN)
