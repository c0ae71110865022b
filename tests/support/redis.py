"""A private Redis: a free port on loopback, nothing on disk, stopped by its own process id."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator

from tests.support.postgres import free_port

STARTS_WITHIN = 90.0


class NotInstalled(Exception):
    """No Redis server is on this machine."""


class Redis:
    """A server that can be killed and started again on the same port."""

    def __init__(self, directory: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers. Raises `NotInstalled`."""
        program = shutil.which("redis-server")
        if program is None:
            raise NotInstalled("redis-server is not installed (Debian: apt-get install redis-server)")
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        process = self._process = subprocess.Popen(
            [program, *options, "--dir", self._directory], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + STARTS_WITHIN
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as link:
                link.sendall(b"PING\r\n")
                if link.recv(64).startswith(b"+PONG"):
                    return
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("Redis did not start")
            time.sleep(0.05)

    def stop(self) -> None:
        """Kill it: what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
            self._process = None


@contextlib.contextmanager
def restartable() -> Iterator[Redis]:
    """A private server, until the block ends. Raises `NotInstalled`."""
    with tempfile.TemporaryDirectory(prefix="platform-redis-") as directory:
        server = Redis(directory)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The URL of a private server. Raises `NotInstalled`."""
    with restartable() as server:
        yield server.url
