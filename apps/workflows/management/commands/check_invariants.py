"""`manage.py check_invariants`: looks at every execution and says what does not hold; ends 1 if anything does not."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.workflows.selectors.invariants import verdict

SHOWN = 50


class Command(BaseCommand):
    """Reads only; may run beside everything else."""

    help = "Checks the engine's invariants on this database, from the rows and the journals."

    def add_arguments(self, parser: CommandParser) -> None:
        """Its options."""
        parser.add_argument(
            "--overdue",
            type=float,
            metavar="SECONDS",
            help="also tell of leases and timers that are late by more than this (I9); for an installation that runs",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Look, and tell. Raises CommandError when something does not hold."""
        told = verdict(overdue=options["overdue"])
        for violation in told.violations[:SHOWN]:
            self.stdout.write(f"{violation.invariant} {violation.execution_id}: {violation.what}")
        looked = f"{told.executions:,} executions, {told.events:,} events: {len(told.violations):,} violations"
        if told.violations:
            raise CommandError(looked)
        self.stdout.write(looked)
