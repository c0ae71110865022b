"""Which runtime runs containers here: what CONTAINER_RUNTIME says, else what answers. Imports no client library."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

Name = Literal["dagger", "docker", "none"]

ANSWERS_WITHIN = 1.0
"""Seconds that a socket is given."""


def chosen(setting: str, *, dagger_port: int | None, docker_host: str) -> Name:
    """`setting` where it names one; else dagger with a session, docker where its socket answers, none."""
    if setting in ("dagger", "docker", "none"):
        return setting  # type: ignore[return-value]  # mypy does not narrow by `in`
    if dagger_port is not None:
        return "dagger"
    return "docker" if any(answers(host) for host in candidates(docker_host)) else "none"


def candidates(docker_host: str) -> tuple[str, ...]:
    """Where the API of Docker or Podman may be: DOCKER_HOST, or the sockets that are there without it."""
    if docker_host:
        return (docker_host,)
    usual = ["/var/run/docker.sock", "/run/podman/podman.sock", f"/run/user/{os.getuid()}/podman/podman.sock"]
    return tuple(f"unix://{path}" for path in usual if Path(path).exists())


def host(docker_host: str) -> str:
    """The address of the API: DOCKER_HOST, else the first usual socket that answers, else Docker's own."""
    found = candidates(docker_host)
    if docker_host or not found:
        return docker_host or "unix:///var/run/docker.sock"
    return next((each for each in found if answers(each)), found[0])


def answers(docker_host: str) -> bool:
    """Whether a Docker-compatible API answers there within a second."""
    with suppress(OSError, ValueError), _connected(docker_host) as connection:
        connection.settimeout(ANSWERS_WITHIN)
        connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
        return b" 200 " in connection.recv(64)
    return False


def _connected(docker_host: str) -> socket.socket:
    where = urlsplit(docker_host)
    if where.scheme == "unix":
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(ANSWERS_WITHIN)
            connection.connect(where.path)
        except OSError:
            connection.close()
            raise
        return connection
    return socket.create_connection((where.hostname or "", where.port or 2375), ANSWERS_WITHIN)
