"""How steps are performed."""

from django.apps import AppConfig


class ExecutorsConfig(AppConfig):
    """How steps are performed."""

    name = "apps.executors"
    label = "executors"
