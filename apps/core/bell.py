"""Doorbells between processes: "something is new, look". They carry ids, never state, and may be lost.

On SQLite a listener is a Unix datagram socket in a directory beside the database; on PostgreSQL it is LISTEN on a
connection of its own, and NOTIFY is sent, coalesced, from another one outside any transaction (inside hot
transactions it serialises commits). Where `REDIS_URL` names a channel layer, the topics of `ACROSS` are rung on it as
well: for server processes on other hosts. Whoever listens also polls now and then, so a lost ring costs time only.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

logger = logging.getLogger(__name__)

PREFIX = "platform_"
ACROSS = frozenset({"events"})  # topics that are rung across hosts
MAX_IDS = 150  # NOTIFY takes 8,000 bytes
_GATHER_SECONDS = 0.004  # between two sends: the rings of busy workers go out together
_LISTING_SECONDS = 0.2  # how long a listing of the listeners is believed while its directory looks unchanged
_MADE_WITHIN = 10.0  # seconds: the file of a socket is there a moment before anybody listens at it
_PUBLISH_SECONDS = 5.0  # after so long a broker that does not answer has lost this ring
_MAX_SOCKET_PATH = 90  # of 108 bytes, less the listener's own name


@dataclass(frozen=True, slots=True)
class Ring:
    """One ring heard: its topic, and ids that tell where to look (perhaps none)."""

    topic: str
    ids: tuple[str, ...]


def ring(topic: str, ids: Iterable[str] = ()) -> None:
    """Ring for whoever listens to `topic`. Never blocks and never raises."""
    try:
        bell = _bells.get(connection.vendor) or _bells.setdefault(connection.vendor, _make())
        told = tuple(ids)
        bell.ring(topic, told)
        if topic in ACROSS and getattr(settings, "CHANNEL_LAYERS", None):
            (_bells.get("layer") or _bells.setdefault("layer", _LayerBell())).ring(topic, told)
    except Exception:
        logger.warning("a doorbell could not be rung; listeners will poll", exc_info=True)


class Listener:
    """Hears the rings of some topics. `fileno` is readable when there is something to `read`."""

    def fileno(self) -> int:
        """The descriptor to wait on; it may change after a `read`."""
        raise NotImplementedError

    def read(self) -> list[Ring]:
        """What was heard since the last read; returns at once."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop listening."""
        raise NotImplementedError


def listen(*topics: str) -> Listener:
    """A listener to `topics` on this installation's database. Raises Django's OperationalError where it is away."""
    return _SocketListener(topics) if connection.vendor == "sqlite" else _NotifyListener(topics)


# --- SQLite: datagram sockets ---------------------------------------------------------------------------------------


def _directory() -> Path:
    """Where the listeners of this database have their sockets (their paths must be short)."""
    beside = Path(str(connection.settings_dict["NAME"])).resolve().parent / "bells"
    if len(os.fsencode(beside)) > _MAX_SOCKET_PATH:
        digest = hashlib.sha256(os.fsencode(beside)).hexdigest()[:16]
        beside = Path(tempfile.gettempdir()) / f"platform-bells-{digest}"
    beside.mkdir(mode=0o700, parents=True, exist_ok=True)
    return beside


class _SocketBell:
    def __init__(self) -> None:
        self._directory = _directory()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._listed_at = 0.0
        self._changed = 0  # when the directory was, by its file system's clock, whose ticks may be milliseconds
        self._listeners: list[tuple[list[str], str]] = []

    def ring(self, topic: str, ids: tuple[str, ...]) -> None:
        now, changed = time.monotonic(), os.stat(self._directory).st_mtime_ns  # noqa: PTH116 (hot)
        if changed != self._changed or now - self._listed_at > _LISTING_SECONDS:
            self._listed_at, self._changed = now, changed
            names = [name for name in os.listdir(self._directory) if name.count(".") == 2]  # noqa: PTH208 (hot)
            self._listeners = [(name.split(".")[0].split("+"), str(self._directory / name)) for name in names]
        message = b""
        for topics, path in self._listeners:
            if topic not in topics:
                continue
            # Without ids the listener looks at everything: the honest answer to too many of them.
            message = message or json.dumps([topic, ids if len(ids) <= MAX_IDS else []]).encode()
            try:
                self._socket.sendto(message, path)
            except ConnectionRefusedError:  # its process died; one that is being made at this moment refuses as well
                with contextlib.suppress(OSError):
                    if time.time() - os.stat(path).st_mtime > _MADE_WITHIN:  # noqa: PTH116 (as above)
                        Path(path).unlink()
            except OSError:  # full: it has enough to look at; or gone
                continue

    def close(self) -> None:
        self._socket.close()


class _SocketListener(Listener):
    def __init__(self, topics: Sequence[str]) -> None:
        self._path = _directory() / f"{'+'.join(topics)}.{os.getpid()}.{secrets.token_hex(3)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(self._path))

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> list[Ring]:
        heard = []
        with contextlib.suppress(BlockingIOError):
            while True:
                topic, ids = json.loads(self._socket.recv(65536))
                heard.append(Ring(topic, tuple(ids)))
        return heard

    def close(self) -> None:
        self._socket.close()
        with contextlib.suppress(OSError):
            self._path.unlink()


# --- PostgreSQL: LISTEN and NOTIFY ----------------------------------------------------------------------------------


def _connect() -> Any:
    import psycopg

    params = connection.get_connection_params()
    wanted = {key: params[key] for key in ("dbname", "host", "port", "user", "password", "sslmode") if params.get(key)}
    with connection.wrap_database_errors:
        return psycopg.connect(**wanted, autocommit=True, connect_timeout=5)


class _SendingBell:
    """One thread sends; while it sends, rings gather and go out together. After an error it begins anew."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[str, None]] = {}
        self._something = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
        self._thread.start()

    def ring(self, topic: str, ids: tuple[str, ...]) -> None:
        with self._something:
            self._waiting.setdefault(topic, {}).update(dict.fromkeys(ids))
            self._something.notify()

    def close(self) -> None:
        with self._something:
            self._closing = True
            self._something.notify()
        self._thread.join(2)

    def _run(self) -> None:
        while True:
            with self._something:
                while not self._waiting and not self._closing:
                    self._something.wait()
                if self._closing:
                    self._end()
                    return
                rings, self._waiting = self._waiting, {}
            try:
                for topic, ids in rings.items():
                    self._send(topic, list(ids) if len(ids) <= MAX_IDS else [])
                time.sleep(_GATHER_SECONDS)
            except Exception:
                logger.warning("a ring could not be sent; listeners will poll", exc_info=True)
                self._end()
                time.sleep(1)

    def _send(self, topic: str, ids: list[str]) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        """Let go of what `_send` has opened."""
        raise NotImplementedError


class _NotifyBell(_SendingBell):
    def __init__(self) -> None:
        self._connect = _connect
        self._link: Any = None
        super().__init__()

    def _send(self, topic: str, ids: list[str]) -> None:
        self._link = self._link or self._connect()
        self._link.execute("SELECT pg_notify(%s, %s)", (PREFIX + topic, json.dumps(ids)))

    def _end(self) -> None:
        link, self._link = self._link, None
        with contextlib.suppress(Exception):
            link and link.close()


class _NotifyListener(Listener):
    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = topics
        self._link: Any = None
        self._open()

    def _open(self) -> None:
        self._link = _connect()
        for topic in self._topics:
            self._link.execute(f'LISTEN "{PREFIX}{topic}"')

    def fileno(self) -> int:
        return int(self._link.fileno())

    def read(self) -> list[Ring]:
        import psycopg

        try:
            return [
                Ring(notice.channel.removeprefix(PREFIX), tuple(json.loads(notice.payload)))
                for notice in self._link.notifies(timeout=0)
            ]
        except psycopg.OperationalError:
            # The server went away. Whoever listens polls meanwhile; the next read tries again.
            with contextlib.suppress(Exception):
                self._open()
            return []

    def close(self) -> None:
        self._link.close()


# --- across hosts: the channel layer ----------------------------------------------------------------------------------


def group_of(topic: str) -> str:
    """The group of the channel layer on which a topic is rung."""
    return PREFIX + topic


class _LayerBell(_SendingBell):
    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        super().__init__()

    def close(self) -> None:
        super().close()
        if not self._thread.is_alive():
            self._loop.close()

    def _send(self, topic: str, ids: list[str]) -> None:
        from channels.layers import get_channel_layer

        message = {"type": "ring", "topic": topic, "ids": ids}
        sending = get_channel_layer().group_send(group_of(topic), message)
        self._loop.run_until_complete(asyncio.wait_for(sending, _PUBLISH_SECONDS))

    def _end(self) -> None:
        from channels.layers import get_channel_layer

        with contextlib.suppress(Exception):
            flushing = asyncio.wait_for(get_channel_layer().flush(), _PUBLISH_SECONDS)
            self._loop.run_until_complete(flushing)


_bells: dict[str, Any] = {}


def _make() -> Any:
    return _SocketBell() if connection.vendor == "sqlite" else _NotifyBell()


def close() -> None:
    """Let go of this process's bells; the next ring makes new ones."""
    while _bells:
        _bells.popitem()[1].close()


# A child of a fork has its parent's descriptors but not its threads: it begins with none.
os.register_at_fork(after_in_child=_bells.clear)
