"""A private PostgreSQL: its own directory, a free port on loopback, stopped by its own process id."""

import contextlib
import itertools
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

import psycopg

STARTS_WITHIN = 90.0


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
    """A port nobody listens on now, and of which this process was not told before.

    It lies beneath those that the system gives to connections by itself: none of them takes it before its server is
    there, or while that is killed and started again. Where that is not known it is any port.
    """
    for port in _PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise AssertionError("unreachable: there is always another")


def _ports() -> Iterator[int]:
    """Each process begins elsewhere, for several look for ports at once."""
    try:
        end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        end = 0
    first = end - 12_000
    if first < 1024:
        yield from itertools.repeat(0)
    for number in itertools.count(os.getpid() * 101):
        yield first + number % 12_000


_PORTS = _ports()


class Server:
    """A private server that can be stopped as a crash stops it, and started again on the same port and data."""

    def __init__(self, directory: Path, *, synced: bool) -> None:
        self.directory, self.port = directory, free_port()
        self.url = f"postgres://platform@127.0.0.1:{self.port}/postgres"
        options = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": str(directory),
            "max_connections": 100, "fsync": "on" if synced else "off",
            "synchronous_commit": "on" if synced else "off", "shared_buffers": "128MB",
        }  # fmt: skip
        as_user = _unprivileged()
        self._who: dict[str, Any] = {} if as_user is None else {"user": as_user, "extra_groups": []}
        if as_user is not None:
            os.chown(directory, as_user, -1)
        self._data = directory / "data"
        self._command = [str(binary("postgres")), "-D", str(self._data)]
        self._command += [f"-c{name}={value}" for name, value in options.items()]
        self._process: subprocess.Popen[bytes] | None = None

    def initialise(self) -> None:
        """Make an empty cluster."""
        subprocess.run(
            [str(binary("initdb")), "-D", str(self._data), "-U", "platform", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True, capture_output=True, cwd=self.directory, **self._who,
        )  # fmt: skip

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=self.directory, stdout=log, stderr=log, **self._who)
        _await(self._process, self.url, self.directory)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT, "fast": ends the sessions, then itself. SIGQUIT, "immediate": as a crash, repaired at the start."""
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


@contextlib.contextmanager
def server(*, synced: bool = True) -> Iterator[Server]:
    """A private server. `synced` False gives up durability for speed (tests that kill nothing)."""
    binary("postgres")
    directory = Path(tempfile.mkdtemp(prefix="platform-postgres-"))
    try:
        private = Server(directory, synced=synced)
        private.initialise()
        private.start()
        try:
            yield private
        finally:
            private.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def running(*, synced: bool = True) -> Iterator[str]:
    """The URL of a private server."""
    with server(synced=synced) as private:
        yield private.url


def _unprivileged() -> int | None:
    """PostgreSQL refuses to run as root: the id of the user it runs as instead, None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    raise NotInstalled("no unprivileged user to run PostgreSQL as")


def _await(process: subprocess.Popen[bytes], url: str, directory: Path) -> None:
    """Until a session can be had: it listens before it has repaired what a crash left, and refuses until then."""
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended: {(directory / 'log').read_text()[-2000:]}")
        with contextlib.suppress(psycopg.Error), psycopg.connect(url, connect_timeout=5):
            return
        time.sleep(0.05)
    raise RuntimeError("PostgreSQL did not start")
