"""`manage.py chaos`: kills, stops and restarts an installation while it works, and says whether anything was lost.

By default a private one, which it starts and removes; with `--here` the one that this environment points to.
"""

import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.models import User
from apps.workers.chaos import storm
from apps.workers.chaos.faults import Faults
from apps.workers.processes import free_port

STARTS_WITHIN = 90.0
PRIVATE_LEASE = 5
PLAN = """This would, for {seconds:g} seconds, on the installation of this environment:
  start about {starts} small executions of five workflows named `Chaos …`, and leave them there;
  kill -9 its workers and now and then its server, stop workers for longer than a lease and let them go on.
On this host it has {workers} workers{server}. Steps that run meanwhile are done again: at least once, as ever.
Add --yes to do it. Without --here a private installation is made for it, and nothing of yours is touched."""


class Command(BaseCommand):
    """Ends 0 when nothing was lost, 1 when something was."""

    help = "Hurts an installation (a private one, or with --here this one) and reads off its database what was lost."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Its options."""
        parser.add_argument("--seconds", type=float, default=60.0, help="how long the storm lasts (default: 60)")
        parser.add_argument("--seed", type=int, help="of its choices (default: one that it prints)")
        parser.add_argument("--here", action="store_true", help="the installation of this environment; asks for --yes")
        parser.add_argument(
            "--yes", action="store_true", help="with --here: kill, do not only say what would be killed"
        )
        parser.add_argument("--user", default="", help="with --here: whose executions they are (default: an admin's)")
        parser.add_argument("--workers", type=int, default=3, help="of the private installation (default: 3)")
        parser.add_argument(
            "--database-url", default="", help="of the private installation: an empty database (default: SQLite)"
        )
        parser.add_argument("--json", default="", metavar="FILE", help="write the figures there as well")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Do it, and tell. Raises CommandError (status 1) when something was lost."""
        if not options["here"]:
            self._private(options)
            return
        by = self._who(options["user"])
        seed = options["seed"] if options["seed"] is not None else secrets.randbelow(10**9)
        if not options["yes"]:
            raise CommandError(self._plan(options["seconds"]), returncode=2)
        self.stdout.write(f"seed {seed}")
        lease = float(settings.ENV.LEASE_SECONDS)
        report = storm.run(by=by, seconds=options["seconds"], seed=seed, lease_seconds=lease, say=self._say)
        self._tell(report, options["json"])

    def _say(self, line: str) -> None:
        self.stdout.write(f"  {time.strftime('%H:%M:%S')} {line}")

    def _plan(self, seconds: float) -> str:
        faults = Faults(random.Random(0), lease_seconds=0.0, say=self._say)  # noqa: S311 (it strikes nobody)
        server = " and a server" if faults.server() else ""
        starts = int(seconds / storm.TICK_SECONDS)
        return PLAN.format(seconds=seconds, starts=starts, workers=len(faults.workers()), server=server)

    @staticmethod
    def _who(name: str) -> User:
        accounts = User.objects.filter(is_active=True)
        found = accounts.filter(username=name) if name else accounts.filter(roles__name="admin").order_by("pk")
        if (by := found.first()) is None:
            raise CommandError(f"there is no active account {name!r}" if name else "there is no admin; name a --user")
        return by

    def _tell(self, report: storm.Report, path: str) -> None:
        if path:
            Path(path).write_text(report.as_json() + "\n", encoding="utf-8")
        for line in report.zombie and ["a stopped worker came back; its step's journal:", *report.zombie]:
            self.stdout.write(line)
        self.stdout.write(
            f"{report.executions:,} executions ({report.refused:,} starts refused), {report.steps:,} steps, "
            f"{report.attempts:,} attempts, {report.events:,} events\n"
            f"{report.kills} workers killed, {report.stops} stopped for a while, {report.server_kills} servers killed\n"
            f"{report.lost} steps lost their performer and were begun again within {report.recovery_max:g} s "
            f"(p99 {report.recovery_p99:g} s)"
        )
        if report.held_back_max:
            self.stdout.write(f"  those lost again, which wait for an idle worker, within {report.held_back_max:g} s")
        self.stdout.write(f"all had ended {report.quiet_after:g} s after the last fault")
        if report.violations:
            self.stdout.write("\n".join(report.violations[:50]))
            raise CommandError(f"{len(report.violations):,} violations")
        self.stdout.write("nothing lost, nothing doubled, nothing stuck: 0 violations")

    # -- a private installation ----------------------------------------------------------------------------------------

    def _private(self, options: dict[str, Any]) -> None:
        manage = [sys.executable, str(Path(settings.ROOT) / "manage.py")]
        with tempfile.TemporaryDirectory(prefix="platform-chaos-") as directory:
            port = free_port()
            env = {
                **os.environ, "DATA_DIR": directory, "DATABASE_URL": options["database_url"], "PORT": str(port),
                "WORKERS": str(options["workers"]), "LEASE_SECONDS": str(PRIVATE_LEASE), "LOG_LEVEL": "ERROR",
                "ADMIN_PASSWORD": secrets.token_urlsafe(16), "DAGGER_TRACING_ENABLED": "false", "REDIS_URL": "",
            }  # fmt: skip
            log = Path(directory) / "log"
            with log.open("wb") as file:
                serving = subprocess.Popen(
                    [*manage, "serve", "--prepare"], env=env, stdout=file, stderr=file, start_new_session=True
                )
            try:
                _await_live(serving, port, log)
                self.stdout.write(f"a private installation on port {port}: {options['workers']} workers, lease 5 s")
                self.stdout.flush()
                asked = ["--seconds", str(options["seconds"]), "--json", options["json"]]
                asked += [] if options["seed"] is None else ["--seed", str(options["seed"])]
                done = subprocess.run([*manage, "chaos", "--here", "--yes", *asked], env=env, check=False)
            finally:
                _end(serving)
        if done.returncode:
            sys.exit(done.returncode)


def _await_live(serving: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline and serving.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/monitoring/health/live", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise CommandError(f"the private installation did not start:\n{log.read_text(errors='replace')[-2000:]}")


def _end(serving: "subprocess.Popen[bytes]") -> None:
    """SIGTERM to all of it, as a service manager does; then what is left is killed."""
    for number, patience in ((signal.SIGTERM, 40.0), (signal.SIGKILL, 10.0)):
        try:
            os.killpg(serving.pid, number)
            serving.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
