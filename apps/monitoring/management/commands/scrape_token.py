"""Keeps a file with a fresh access token for Prometheus: `manage.py scrape_token /run/scrape/token`."""

import os
import time
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connection, transaction

from apps.accounts import audit, services, tokens
from apps.accounts.models import Permission, Role, User
from apps.accounts.permissions import Permission as PermissionCode
from apps.core.errors import Unauthenticated

ACCOUNT = "prometheus"
ROLE = "scraper"
RENEWALS_A_LIFETIME = 3
RETRY_SECONDS = 5.0


def _existing_directory(text: str) -> Path:
    path = Path(text)
    if not path.parent.is_dir():
        raise ArgumentTypeError(f"{path.parent} is not a directory")
    return path


class Command(BaseCommand):
    """Logs the account `prometheus` in, whose role may read metrics and nothing else, and renews its token in time."""

    help = "Writes an access token that reads metrics to FILE, and renews it before it expires, until stopped."

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to, and whether to stay."""
        parser.add_argument("file", type=_existing_directory, help="replaced as a whole at each renewal")
        parser.add_argument("--once", action="store_true", help="write one token and end")

    def handle(self, *_: Any, **options: Any) -> None:
        """Raises CommandError where the account was disabled or the file cannot be written."""
        pair = tokens.issue(_account())
        _write(options["file"], pair.access_token)
        while not options["once"]:
            time.sleep(pair.expires_in / RENEWALS_A_LIFETIME)
            pair = self._renewed(pair)
            _write(options["file"], pair.access_token)

    def _renewed(self, pair: tokens.Pair) -> tokens.Pair:
        while True:
            try:
                try:
                    return tokens.rotate(pair.refresh_token)[1]
                except Unauthenticated:  # somebody ended its sessions, which is no reason to stop watching
                    return tokens.issue(_account())
            except Error as error:
                self.stderr.write(f"the database does not answer ({type(error).__name__}); trying again")
                connection.close()
                time.sleep(RETRY_SECONDS)


@transaction.atomic
def _account() -> User:
    """The account, made with its role where missing. Raises CommandError where it is disabled."""
    user = User.objects.filter(username=ACCOUNT).first()
    if user is None:
        role, is_new = Role.objects.get_or_create(name=ROLE, defaults={"description": "Reads metrics for Prometheus"})
        if is_new:
            role.permissions.set(Permission.objects.filter(code=PermissionCode.MONITORING_READ))
        with audit.command("scrape_token"):
            user = services.create_user(ACCOUNT, password=None, by=None, roles=[role])
    if not user.is_active:
        raise CommandError(f"the account {ACCOUNT!r} is disabled; enable it in {settings.ENV.PLATFORM_URL}/admin/")
    return user


def _write(path: Path, token: str) -> None:
    """Replace the file at once: whoever reads it never sees half a token."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(token)
        # Prometheus runs as another user; who reaches the directory is the operator's decision (a private volume).
        fresh.chmod(0o644)
        fresh.replace(path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None
