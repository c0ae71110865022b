"""`manage.py prune`: deletes what is older than it is kept for, in small transactions, while everything runs."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.accounts.audit import command
from apps.core.clock import database_now
from apps.workflows.services import retention


class Command(BaseCommand):
    """May run at any time and be killed at any time; several at a time do no harm."""

    help = "Deletes what is older than RETENTION_DAYS, LOG_RETENTION_DAYS and the other limits say."

    def add_arguments(self, parser: CommandParser) -> None:
        """Its options."""
        parser.add_argument("--dry-run", action="store_true", help="only say how many rows would go")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Prune until nothing old is left, and say how much went."""
        now = database_now()
        if options["dry_run"]:
            counts = retention.count(now)
        else:
            with command("prune"):
                counts = retention.run(now).counts
        for table, number in sorted(counts.items()):
            if number:
                self.stdout.write(f"{table}: {number:,}")
        verb = "rows would go" if options["dry_run"] else "rows pruned"
        self.stdout.write(f"{sum(counts.values()):,} {verb}")
