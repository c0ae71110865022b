"""Worker processes, the reaper and their commands."""

from django.apps import AppConfig


class WorkersConfig(AppConfig):
    """Worker processes, the reaper and their commands."""

    name = "apps.workers"
    label = "workers"
