"""Makes the first admin, once: `manage.py create_admin`."""

import secrets
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from apps.accounts import audit, roles, services
from apps.accounts.models import Role, User
from apps.accounts.permissions import Role as RoleName
from apps.core.errors import PlatformError


class Command(BaseCommand):
    """The user `admin` with `ADMIN_PASSWORD`, or with a generated password that is printed this once."""

    help = "Makes an admin account if there is no active one; its password is ADMIN_PASSWORD, or made and printed once."

    def add_arguments(self, parser: CommandParser) -> None:
        """The name, for an installation whose `admin` was disabled."""
        parser.add_argument("--username", default="admin", help="name of the account (default: admin)")

    def handle(self, *_: Any, **options: Any) -> None:
        """Idempotent: where an active admin exists nothing changes, its password neither."""
        username = str(options["username"])
        roles.ensure()
        with audit.command("create_admin"), transaction.atomic():
            # One of two that start together waits here and then finds the other's admin.
            role = Role.objects.select_for_update().get(name=RoleName.ADMIN)
            if admins := services.active_admins():
                self.stdout.write(f"an active admin exists: {', '.join(admins)}")
                return
            if User.objects.filter(username=username).exists():
                raise CommandError(
                    f"the account {username!r} exists but is no active admin; name another with --username"
                )
            given = settings.ENV.ADMIN_PASSWORD
            password = given or secrets.token_urlsafe(15)
            try:
                services.create_user(username, password=password, by=None, roles=[role])
            except PlatformError as error:
                prefix = "ADMIN_PASSWORD: " if given else ""
                raise CommandError(prefix + error.detail) from None
        self.stdout.write(f"made the account {username} with the role admin")
        if not given:
            # The last line, for whoever reads it by machine; it is stored nowhere.
            self.stdout.write(f"{username} password: {password}")
