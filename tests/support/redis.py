"""A private Redis: a free port on loopback, nothing on disk, stopped by its own process id."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator

from tests.support.postgres import free_port

STARTS_WITHIN = 30.0


class NotInstalled(Exception):
    """No Redis server is on this machine."""


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The URL of a private server."""
    program = shutil.which("redis-server")
    if program is None:
        raise NotInstalled("redis-server is not installed (Debian: apt-get install redis-server)")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="platform-redis-") as directory:
        process = subprocess.Popen(
            [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", directory],  # noqa: E501
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + STARTS_WITHIN
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("Redis did not start")
                time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait(10)
