"""A private PostgreSQL: its own directory, a free port on loopback, stopped by its own process id."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STARTS_WITHIN = 30.0


class NotInstalled(Exception):
    """No PostgreSQL server is on this machine."""


def binary(name: str) -> Path:
    """A program of PostgreSQL, from PATH or from where Debian keeps it. Raises `NotInstalled`."""
    candidates = [Path(found)] if (found := shutil.which(name)) else []
    candidates += sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    for candidate in candidates:
        if candidate.exists():
            return candidate.resolve()
    raise NotInstalled(f"{name} is not installed (Debian: apt-get install postgresql)")


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(*, synced: bool = True) -> Iterator[str]:
    """The URL of a private server. `synced` False gives up durability for speed (tests that kill nothing)."""
    server = binary("postgres")
    directory = Path(tempfile.mkdtemp(prefix="platform-postgres-"))
    as_user = _unprivileged()
    try:
        if as_user is not None:
            os.chown(directory, as_user, -1)
        who: dict[str, Any] = {} if as_user is None else {"user": as_user, "extra_groups": []}
        data = directory / "data"
        subprocess.run(
            [str(binary("initdb")), "-D", str(data), "-U", "platform", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True, capture_output=True, cwd=directory, **who,
        )  # fmt: skip
        port = free_port()
        options = {
            "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": str(directory),
            "max_connections": 100, "fsync": "on" if synced else "off",
            "synchronous_commit": "on" if synced else "off", "shared_buffers": "128MB",
        }  # fmt: skip
        log = (directory / "log").open("wb")
        command = [str(server), "-D", str(data), *(f"-c{name}={value}" for name, value in options.items())]
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log, **who)
        try:
            _await(process, port, directory)
            yield f"postgres://platform@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # "fast": ends the sessions, then itself
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _unprivileged() -> int | None:
    """PostgreSQL refuses to run as root: the id of the user it runs as instead, None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    raise NotInstalled("no unprivileged user to run PostgreSQL as")


def _await(process: subprocess.Popen[bytes], port: int, directory: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended: {(directory / 'log').read_text()[-2000:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return
        time.sleep(0.05)
    raise RuntimeError("PostgreSQL did not start")
