"""`manage.py serve`: a whole installation in one process group: the server and its workers, watched and restarted."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from apps.workers.management.commands.worker import name_of, new_token
from apps.workers.processes import between, why_not
from apps.workflows.services import leases

DRAIN_SECONDS = 28.0
QUICK_SECONDS = 2.0  # a child that lives shorter than this is restarted with growing pauses
MAX_PAUSE_SECONDS = 10.0
LOOK_SECONDS = 0.1


@dataclass(slots=True)
class _Child:
    command: list[str]
    is_worker: bool
    name: str = ""
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    pause: float = 0.0
    due: float = field(default=0.0)

    def start(self) -> None:
        # A new process is a new owner: it can never answer for its predecessor's leases.
        token = new_token()
        command = [*self.command, "--token", token] if self.is_worker else self.command
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(command, env={**os.environ, "PLATFORM_SUPERVISED": "1"})
        self.name = name_of(self.process.pid, token)


class Command(BaseCommand):
    """Supervises one server and some workers."""

    requires_system_checks: list[str] = []  # `make check` and `migrate` run them; this starts in a tenth of the time
    help = "Runs the server and WORKERS workers in this process group; SIGTERM or Ctrl-C drains and ends them."

    def add_arguments(self, parser: CommandParser) -> None:
        """Its options; the defaults are the settings'."""
        parser.add_argument("--host", default=settings.ENV.HOST)
        parser.add_argument("--port", type=between(1, 65535), default=settings.ENV.PORT)
        parser.add_argument("--workers", type=between(0, 64), default=settings.ENV.WORKERS)
        parser.add_argument(
            "--prepare", action="store_true", help="migrate the database and make the first administrator before"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Start all, watch, and end all. Raises CommandError when nothing can listen there."""
        host, port = options["host"], options["port"]
        if reason := why_not(host, port):
            raise CommandError(reason)
        if options["prepare"]:
            self._prepare(quiet=not options["verbosity"])
        manage = [sys.executable, str(Path(settings.ROOT) / "manage.py")]
        children = [_Child([*manage, "server", "--host", host, "--port", str(port)], is_worker=False)]
        children += [_Child([*manage, "worker"], is_worker=True) for _ in range(options["workers"])]
        self._ending = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        for child in children:
            child.start()
        if options["verbosity"]:
            where = f"http://{host}:{port}/ with {options['workers']} workers; data in {settings.DATA_DIR}"
            self.stdout.write(f"serving on {where}")
            self.stdout.flush()
        while not self._ending:
            for child in children:
                self._look_after(child)
            time.sleep(LOOK_SECONDS)
        self._drain(children)

    def _prepare(self, *, quiet: bool) -> None:
        """In this process: each command of its own would load the whole program once more."""
        for command in (["migrate", "--verbosity", "0"], ["create_admin"]):
            call_command(*command, stdout=StringIO() if quiet else self.stdout)
        connection.close()

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._ending = True

    def _look_after(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if now >= child.due:
                child.start()
            return
        status = child.process.poll()
        if status is None:
            return
        what = f"worker {child.name}" if child.is_worker else "server"
        child.pause = min(MAX_PAUSE_SECONDS, child.pause * 2 or 0.5) if now - child.started_at < QUICK_SECONDS else 0.0
        self.stderr.write(f"{what} ended with status {status}; starting another in {child.pause:g} s")
        child.process, child.due = None, now + child.pause
        if child.is_worker:
            self._bury(child.name)

    def _bury(self, name: str) -> None:
        """The parent saw it die, so its steps need not wait for their leases to run out."""
        try:
            leases.leave(name)
        except Exception as error:
            self.stderr.write(f"worker {name}: its leases will run out by themselves ({type(error).__name__})")
            connection.close()

    def _drain(self, children: list[_Child]) -> None:
        """Workers first, so that what they finish is still shown; then the server."""
        deadline = time.monotonic() + DRAIN_SECONDS
        for workers in (True, False):
            ending = [child for child in children if child.is_worker is workers and child.process is not None]
            for child in ending:
                if child.process and child.process.poll() is None:
                    child.process.terminate()
            for child in ending:
                assert child.process is not None  # noqa: S101 (chosen so above)
                try:
                    child.process.wait(max(0.5, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    child.process.kill()
                    child.process.wait()
                    if child.is_worker:
                        self._bury(child.name)
