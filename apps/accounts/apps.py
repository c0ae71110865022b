"""Accounts as a Django app, and the admin site whose doors are our permissions."""

from typing import Any

from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps
from django.db import connections
from django.db.models.signals import post_migrate


def _ensure_roles(sender: AppConfig, using: str, **_: Any) -> None:  # noqa: ARG001
    from apps.accounts.models import Role
    from apps.accounts.roles import ensure

    # `migrate auth` on an empty database, or `migrate accounts zero`: there is nowhere to insert them.
    if Role._meta.db_table in connections[using].introspection.table_names():
        ensure(using=using)


class AccountsConfig(AppConfig):
    """Users, roles, permissions and tokens: who may."""

    name = "apps.accounts"
    label = "accounts"
    default = True
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Insert missing roles after each `migrate`; describe credentials to OpenAPI; open the audit log."""
        from apps.accounts.api import openapi  # noqa: F401
        from apps.accounts.audit import receivers

        receivers.connect()

        # After migrate and not inside a migration: tests that flush the database get the rows back, too.
        post_migrate.connect(_ensure_roles, sender=self, dispatch_uid="accounts.roles")


class AdminSiteConfig(admin_apps.AdminConfig):
    """Django's admin with `PlatformAdminSite` as its site."""

    default = False
    default_site = "apps.accounts.admin_site.PlatformAdminSite"
