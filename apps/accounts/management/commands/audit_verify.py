"""Checks the audit log's chain: `manage.py audit_verify`."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.accounts.audit.chain import verify


class Command(BaseCommand):
    """Reads every entry; ends 1 at the first that was changed or is missing."""

    help = "Checks that no entry of the audit log was changed or removed; ends 1 and names the first broken link."

    def handle(self, *_: Any, **__: Any) -> None:
        """One line."""
        verdict = verify()
        if verdict.broken_at is not None:
            raise CommandError(
                f"the audit log is broken at entry {verdict.broken_at}: {verdict.reason}; "
                f"the {verdict.entries} entries before it hold"
            )
        self.stdout.write(f"the audit log holds: {verdict.entries} entries")
