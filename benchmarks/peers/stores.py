"""What a peer keeps its state in: for each shape a new one, as environment variables of its script."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.peers.catalogue import Peer
from benchmarks.peers.environments import MissingError
from tests.support import postgres

START_SECONDS = 10.0


@contextlib.contextmanager
def opened(peer: Peer, directory: Path, postgres_url: str, name: str) -> Iterator[Mapping[str, str]]:
    """A store of its own, in `directory` or as the database `name`. Raises `MissingError`."""
    match peer.store:
        case "redis":
            with _redis(directory) as url:
                yield {"BENCH_URL": url}
        case "sqlite":
            yield {"BENCH_URL": f"{peer.scheme}{directory / 'bench.sqlite'}"}
        case "postgres":
            yield {"BENCH_URL": _database(peer, postgres_url, name)}
        case "prefect":
            yield {
                "PREFECT_HOME": str(directory), "PREFECT_API_URL": f"http://127.0.0.1:{postgres.free_port()}/api",
                "PREFECT_LOGGING_LEVEL": "ERROR", "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            }  # fmt: skip


def _database(peer: Peer, url: str, name: str) -> str:
    """A new database on the private server."""
    import psycopg
    from psycopg import sql

    if not url:
        raise MissingError("PostgreSQL is not installed")
    with psycopg.connect(url, autocommit=True) as link:
        link.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return peer.scheme + url.removeprefix("postgres").rpartition("/")[0] + f"/{name}"


@contextlib.contextmanager
def _redis(directory: Path) -> Iterator[str]:
    """A private Redis as its manual has it for durability: an append-only file, synced each second."""
    server = shutil.which("redis-server")
    if server is None:
        raise MissingError("redis-server is not installed (Debian: apt-get install redis-server)")
    port = postgres.free_port()
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--appendonly", "yes"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(20)


def _await(port: int) -> None:
    import redis

    deadline = time.monotonic() + START_SECONDS
    with redis.Redis(port=port) as link:
        while True:
            try:
                link.ping()
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise MissingError("redis-server did not start") from None
                time.sleep(0.05)
            else:
                return
