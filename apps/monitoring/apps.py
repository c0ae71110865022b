"""Monitoring as a Django app: no models; it listens to what the workflows' app announces."""

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    """Metrics, traces and health."""

    name = "apps.monitoring"
    label = "monitoring"

    def ready(self) -> None:
        """Hear of executions that end; leave `_created` series out (each would double a histogram's cost)."""
        from prometheus_client import disable_created_metrics

        from apps.monitoring.receivers import on_committed
        from apps.workflows.signals import committed

        disable_created_metrics()  # type: ignore[no-untyped-call]
        committed.connect(on_committed, dispatch_uid="monitoring.executions")
