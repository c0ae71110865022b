"""`manage.py status`: what burns, what waits, what is stuck. Ends with status 1 unless all is well."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from apps.monitoring import health, situation


class Command(BaseCommand):
    """For a person at a terminal, or a script that asks whether to wake one."""

    help = "Says what burns, what waits and what is stuck; status 1 unless all is well."

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Raises CommandError where the database does not answer."""
        try:
            found = situation.now()
        except Error as error:
            raise CommandError(f"the database does not answer ({type(error).__name__})") from None
        self._say("burns", [f"{one.severity:<9}{one.name}: {one.summary}" for one in found.burning])
        waiting = [f"{one.queue}: {one.depth:,} steps, the first for {one.seconds:.0f} s" for one in found.waiting]
        self._say("waits", waiting)
        stuck = [f"{one.execution_id} of {one.workflow_id} since {one.since:%Y-%m-%d %H:%M:%S}" for one in found.stuck]
        self._say("stuck", stuck)
        self.stdout.write(f"workers: {found.workers} live, {found.lost} lost")
        if found.alerts_unknown:
            self.stdout.write(f"alerts: {found.alerts_unknown}")
        bad = [check for check in health.checks() if not check.ok]
        for check in bad:
            self.stdout.write(f"{check.name}: {check.reason}")
        if bad or not found.is_well:
            sys.exit(1)

    def _say(self, what: str, lines: list[str]) -> None:
        for line in lines or ["nothing"]:
            self.stdout.write(f"{what}: {line}")
