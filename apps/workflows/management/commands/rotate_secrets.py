"""`manage.py rotate_secrets`: seals everything under the first of `VAULT_KEYS`, so that the others can go."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.accounts.audit import command
from apps.workflows.services import secrets


class Command(BaseCommand):
    """May run at any time, several times, and be killed at any time."""

    help = (
        "Seals secrets, webhooks, receivers and second factors under the first of VAULT_KEYS; "
        "then older keys may be taken out."
    )

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Rotate, and say what was done; ends 1 where something cannot be opened."""
        with command("rotate_secrets"):
            anew, already, lost = secrets.rotate()
        self.stdout.write(f"{anew:,} sealed under the first key, {already:,} were already")
        for name in lost:
            self.stderr.write(f"{name}: no key of VAULT_KEYS opens it; give that key, or store it anew")
        if lost:
            raise CommandError(f"{len(lost):,} could not be opened: keep the older keys")
