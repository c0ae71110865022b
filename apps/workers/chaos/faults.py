"""The processes of this installation on this host, and what is done to them."""

import contextlib
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
from django.db import Error, connection

from apps.workflows.models import Performer


@dataclass(slots=True)
class Struck:
    """What was done, by kind, and when (by the host's clock, seconds) each performer was struck."""

    kills: int = 0
    stops: int = 0
    server_kills: int = 0
    moments: dict[str, float] = field(default_factory=dict)
    zombies: list[str] = field(default_factory=list)


class Faults:
    """Strikes workers, and now and then the server. `say` is told of each blow."""

    def __init__(self, rng: random.Random, *, lease_seconds: float, say: Callable[[str], None]) -> None:
        self._rng, self._lease, self._say = rng, lease_seconds, say
        self.struck = Struck()
        # By pid, what lets it go on. That must not depend on who strikes: a worker that is stopped within a
        # transaction on SQLite keeps every writer waiting, the load of this very process among them.
        self._stopped: dict[int, threading.Timer] = {}
        self._answered: set[tuple[str, int]] = set()  # where servers that were killed had listened

    def workers(self) -> dict[str, psutil.Process]:
        """The workers by name that the database knows and that live here. Raises Error."""
        found = {}
        host = socket.gethostname()[:60]
        for name in Performer.objects.filter(kind="worker").values_list("name", flat=True):
            where, _, rest = name.rpartition("-")[0].rpartition("-")
            if where != host or not rest.isdigit() or int(rest) in self._stopped:
                continue
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(int(rest))
                if "worker" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    found[name] = process
        return found

    def server(self) -> psutil.Process | None:
        """The server beside the workers: another child of what started them."""
        for process in self.workers().values():
            for child in _beside(process):
                with contextlib.suppress(psutil.Error):  # this one is gone, or dead and not yet buried
                    if "server" in child.cmdline():
                        return child
        return None

    def strike(self) -> None:
        """Perhaps one blow. Whoever is stopped goes on by itself when its lease is over."""
        chance = self._rng.random()
        if chance > 0.25:
            return
        try:
            workers = self.workers()
            server = self.server() if chance < 0.03 else None
        except Error:
            connection.close()
            return
        if server is not None:
            self._kill_server(server)
        elif workers:
            name = self._rng.choice(sorted(workers))
            if chance < 0.16 and not self._stopped:
                self._stop(name, workers[name])
            else:
                self._kill(name, workers[name])

    def _kill_server(self, server: psutil.Process) -> None:
        self._answered |= _listens(server)
        if self._blow(server, signal.SIGKILL, "server"):
            self.struck.server_kills += 1

    def _kill(self, name: str, process: psutil.Process) -> None:
        if self._blow(process, signal.SIGKILL, name):
            self.struck.kills += 1
            self.struck.moments[name] = time.time()

    def _stop(self, name: str, process: psutil.Process) -> None:
        if self._blow(process, signal.SIGSTOP, name):
            timer = threading.Timer(self._lease + 3, self._go_on, [process.pid])
            timer.daemon = True
            self._stopped[process.pid] = timer
            timer.start()
            self.struck.stops += 1
            self.struck.moments[name] = time.time()
            self.struck.zombies.append(name)

    def _blow(self, process: psutil.Process, number: signal.Signals, name: str) -> bool:
        try:
            process.send_signal(number)  # psutil makes sure that the pid is still this process
        except psutil.Error:
            return False
        self._say(f"{number.name} {name}")
        return True

    def silent(self) -> list[str]:
        """The addresses of killed servers at which none answers yet: their supervisor is still starting another."""
        return sorted(f"{host}:{port}" for host, port in self._answered if not _answers(host, port))

    def wake(self) -> None:
        """SIGCONT for all who are stopped."""
        for pid, timer in list(self._stopped.items()):
            timer.cancel()
            self._go_on(pid)

    def _go_on(self, pid: int) -> None:
        if self._stopped.pop(pid, None) is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
            self._say(f"SIGCONT {pid}")


def _beside(worker: psutil.Process) -> list[psutil.Process]:
    """All that were started by who started this worker."""
    with contextlib.suppress(psutil.Error):
        parent = worker.parent()
        if parent and "serve" in parent.cmdline():
            return parent.children()
    return []


def _listens(server: psutil.Process) -> set[tuple[str, int]]:
    """Where it can be reached from this host; nothing while it is still starting."""
    with contextlib.suppress(psutil.Error):
        sockets = [one.laddr for one in server.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
        return {(at.ip, at.port) for at in sockets}  # a wildcard address is one to connect to as well
    return set()


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True
