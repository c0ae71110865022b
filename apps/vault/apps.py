"""Secrets and artifacts."""

from django.apps import AppConfig


class VaultConfig(AppConfig):
    """Secrets and artifacts."""

    name = "apps.vault"
    label = "vault"
