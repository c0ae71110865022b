"""Live progress: the journal feed, sockets and REST."""

from django.apps import AppConfig


class ProgressConfig(AppConfig):
    """Live progress: the journal feed, sockets and REST."""

    name = "apps.progress"
    label = "progress"

    def ready(self) -> None:
        """Offer what this process knows of its readers to whoever watches."""
        from apps.core import metrics
        from apps.progress import outbox
        from apps.progress.feed import readers

        metrics.offer("dagger_progress_subscribers", lambda: {(): float(readers())})
        metrics.offer("dagger_progress_messages_dropped_total", outbox.dropped.read)
