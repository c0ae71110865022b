"""Live progress: the journal feed, sockets and REST."""

from django.apps import AppConfig


class ProgressConfig(AppConfig):
    """Live progress: the journal feed, sockets and REST."""

    name = "apps.progress"
    label = "progress"
