"""One container of the Docker API, from its image to its removal. Blocks; `stop` is called from another thread."""

import logging
import socket
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import LogConfig, Mount

from apps.executors.container import archive
from apps.executors.container.config import ARTIFACTS
from apps.executors.container.labels import cache_of, labels_of_cache
from apps.executors.container.work import Ended, NotPerformed, Work, registry_unreached
from apps.executors.types import Stream

if TYPE_CHECKING:
    from docker import APIClient

logger = logging.getLogger(__name__)

GRACE_SECONDS = 2
"""Between SIGTERM and SIGKILL."""

PROCESSES = 1024
"""How many processes one container may have at a time."""

READ_BYTES = 1 << 16
_STREAMS: dict[int, Stream] = {1: "stdout", 2: "stderr"}
_NEVER = ("executable file not found", "no such file or directory", "permission denied", "not a directory", "is a dir")
_NO_IMAGE = ("not found", "manifest unknown", "denied", "unauthorized", "authentication required", "invalid reference")

Pour = Callable[[Stream, bytes], None]


class Box:
    """A container that is run once."""

    def __init__(self, client: "APIClient", work: Work, pour: Pour) -> None:
        self._client = client
        self._work = work
        self._pour = pour
        self._lock = threading.Lock()
        self._stopped = False
        self._id: str | None = None

    def run(self) -> Ended:
        """Run it to its end and remove it. Raises NotPerformed."""
        try:
            self._pull_where_missing()
            return self._run()
        except (DockerException, requests.RequestException, OSError) as error:
            if self._stopped:
                raise NotPerformed("cancelled", "it was stopped") from error
            raise _told(error) from error
        finally:
            self._remove()

    def stop(self) -> None:
        """End it: SIGTERM, `GRACE_SECONDS`, SIGKILL. What has not been made yet never will be."""
        with self._lock:
            self._stopped = True
            made = self._id
        if made is None:
            return
        try:
            self._client.stop(made, timeout=GRACE_SECONDS)
        except NotFound:
            return
        except (DockerException, requests.RequestException):
            logger.warning("a container could not be stopped, killing it", exc_info=True)
        self._remove()

    # -- its life ----------------------------------------------------------------------------------------------------

    def _pull_where_missing(self) -> None:
        with suppress(ImageNotFound):
            self._client.inspect_image(self._work.image)
            return
        self._pour("stderr", f"[pulling {self._work.image}]\n".encode())
        registry = self._work.registry
        auth = None if registry is None else {"username": registry.username, "password": registry.password}
        name, tag = _split(self._work.image)
        try:
            for line in self._client.pull(name, tag=tag, auth_config=auth, stream=True, decode=True):
                if self._stopped:
                    raise NotPerformed("cancelled", "it was stopped")
                if problem := line.get("error"):
                    raise _no_image(str(problem))
            self._client.inspect_image(self._work.image)
        except APIError as error:
            raise _no_image(error.explanation or str(error)) from error

    def _run(self) -> Ended:
        made = self._create()
        params = {"stdin": int(bool(self._work.stdin)), "stdout": 1, "stderr": 1, "stream": 1}
        attached = self._client.attach_socket(made, params=params)
        connection = getattr(attached, "_sock", attached)
        try:
            connection.settimeout(None)
            self._client.start(made)
            if self._work.stdin:
                threading.Thread(target=_feed, args=(connection, self._work.stdin), daemon=True).start()
            for stream, data in _pieces(connection):
                self._pour(stream, data)
        finally:
            attached.close()
        told: Any = self._client.wait(made, timeout=None)
        if problem := told.get("Error"):
            # Beside it Podman gives the exit code 0, whatever became of the command.
            raise NotPerformed("error", f"the engine lost the container: {str(problem.get('Message'))[:500]}")
        state = self._client.inspect_container(made)["State"]
        self._bring_artifacts(made)
        return Ended(exit_code=int(told["StatusCode"]), out_of_memory=bool(state.get("OOMKilled")))

    def _create(self) -> str:
        work = self._work
        limits: dict[str, Any] = {}
        if work.memory is not None:
            limits |= {"mem_limit": work.memory, "memswap_limit": work.memory}
        if work.nano_cpus is not None:
            limits["nano_cpus"] = work.nano_cpus
        if not work.network:
            limits["network_mode"] = "none"
        settings = self._client.create_host_config(
            mounts=list(self._mounts()),
            pids_limit=PROCESSES,
            security_opt=["no-new-privileges"],
            # Its output is read as it is written; kept by the engine, it would fill the host's disk.
            log_config=LogConfig(type="none"),
            **limits,
        )
        with self._lock:
            if self._stopped:
                raise NotPerformed("cancelled", "it was stopped")
            made = self._client.create_container(
                work.image,
                None if work.command is None else list(work.command),
                environment={**work.environment, **work.secrets, **work.identity},
                labels=dict(work.labels),
                user=work.user,
                stdin_open=bool(work.stdin),
                host_config=settings,
            )
            self._id = str(made["Id"])
        if work.artifacts:
            self._client.put_archive(self._id, "/", archive.empty())
        return self._id

    def _bring_artifacts(self, made: str) -> None:
        if not self._work.artifacts:
            return
        try:
            pieces, _ = self._client.get_archive(made, ARTIFACTS, chunk_size=archive.PIECE)
        except NotFound:
            return  # the command removed it
        try:
            archive.unpacked(iter(pieces), Path(self._work.artifacts), most_bytes=self._work.max_artifact_bytes)
        except tarfile.TarError as error:
            raise NotPerformed("connection", "the files that it left could not be fetched from the engine") from error
        except requests.RequestException:  # it is an OSError, too
            raise
        except OSError as error:
            raise NotPerformed("output", f"the files that it left cannot be written: {error.strerror}") from error

    def _mounts(self) -> Iterator[Mount]:
        for volume in self._work.volumes:
            yield Mount(volume.target, volume.source, type="bind", read_only=volume.read_only)
        for cache in self._work.caches:
            name = cache_of(self._work.labels, cache.name)
            # One that is there stays as it is. Podman ignores labels of a mount, so the volume is made before.
            try:
                self._client.create_volume(name, labels=labels_of_cache(self._work.labels))
            except APIError:
                # Podman answers 500 where another step made the same one at this moment.
                if not self._has_volume(name):
                    raise
            yield Mount(cache.target, name, type="volume")

    def _has_volume(self, name: str) -> bool:
        with suppress(NotFound):
            self._client.inspect_volume(name)
            return True
        return False

    def _remove(self) -> None:
        if self._id is None:
            return
        try:
            self._client.remove_container(self._id, force=True, v=True)
        except NotFound:
            pass
        except APIError as error:
            if error.status_code != 409:  # somebody else removes it at this moment
                logger.warning("a container could not be removed; it is left to the sweep: %s", error.explanation)
        except (DockerException, requests.RequestException) as error:
            logger.warning("a container could not be removed; it is left to the sweep: %s", type(error).__name__)


def _feed(connection: socket.socket, data: bytes) -> None:
    """Standard input, then its end. A command that does not read it is free to."""
    with suppress(OSError):
        connection.sendall(data)
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


def _pieces(connection: socket.socket) -> Iterator[tuple[Stream, bytes]]:
    """The frames of an attached container: eight bytes that name stream and length, then the data.

    The other end resets where a command left some of its standard input unread. Whether the engine itself is gone
    is found when the container is waited for.
    """
    while header := _exactly(connection, 8):
        kind, left = struct.unpack(">BxxxL", header)
        while left:
            data = _received(connection, min(left, READ_BYTES))
            if not data:
                return
            left -= len(data)
            if kind in _STREAMS:
                yield _STREAMS[kind], data


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = _received(connection, size - len(data))
        if not more:
            return b""
        data += more
    return data


def _received(connection: socket.socket, size: int) -> bytes:
    try:
        return connection.recv(size)
    except ConnectionResetError:
        return b""


def _split(image: str) -> tuple[str, str | None]:
    """The image's name and its tag; a digest belongs to the name, and `latest` is meant where there is neither."""
    if "@" in image:
        return image, None
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, "latest")


def _no_image(text: str) -> NotPerformed:
    lowered = text.lower()
    if any(word in lowered for word in _NO_IMAGE) and "no such host" not in lowered:
        shown = text[:500].rstrip(". ")
        message = f"it cannot be pulled: {shown}. Check its name, or give the step a `registry` that may pull it"
        return NotPerformed("invalid", message, retryable=False)
    return registry_unreached(text[:500])


def _told(error: Exception) -> NotPerformed:
    if isinstance(error, APIError):
        text = str(error.explanation or error)[:500]
        if any(word in text.lower() for word in _NEVER):
            return NotPerformed("invalid", f"the container cannot be started: {text}", retryable=False)
        if error.is_client_error() and error.status_code not in (404, 409):
            return NotPerformed("invalid", f"the engine refuses this container: {text}", retryable=False)
        return NotPerformed("error", f"the engine could not run the container: {text}")
    message = f"the connection to the engine was lost while the container ran ({type(error).__name__})"
    return NotPerformed("connection", message)
