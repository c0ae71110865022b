"""A private Redis: a free port on loopback, nothing on disk, stopped by its own process id."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.postgres import NotInstalled, free_port

STARTS_WITHIN = 30.0


class Redis:
    """A server that can be stopped and started again on the same port."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers. Raises `NotInstalled`."""
        server = shutil.which("redis-server")
        if server is None:
            raise NotInstalled("redis-server is not installed (Debian: apt-get install redis-server)")
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._directory)]
        self._process = subprocess.Popen([server, *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.5):
                return
            time.sleep(0.05)
        raise RuntimeError("Redis did not start")

    def stop(self) -> None:
        """Kill it: what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def running() -> Iterator[Redis]:
    """A server, until the block ends. Raises `NotInstalled`."""
    with tempfile.TemporaryDirectory(prefix="platform-redis-") as directory:
        server = Redis(Path(directory))
        server.start()
        try:
            yield server
        finally:
            server.stop()
