"""Monitoring as a Django app: no models; it listens to what the workflows' app announces."""

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    """Metrics, traces and health."""

    name = "apps.monitoring"
    label = "monitoring"

    def ready(self) -> None:
        """Hear of what ends and of refusals; leave `_created` series out (each would double a histogram's cost)."""
        from django.contrib.auth.signals import user_login_failed
        from prometheus_client import disable_created_metrics

        from apps.core import metrics
        from apps.core.api.viewsets import refused, turned_away
        from apps.monitoring import receivers
        from apps.workflows.signals import committed

        disable_created_metrics()  # type: ignore[no-untyped-call]
        committed.connect(receivers.on_committed, dispatch_uid="monitoring.executions")
        refused.connect(receivers.on_refused, dispatch_uid="monitoring.refused")
        turned_away.connect(receivers.on_refused, dispatch_uid="monitoring.turned_away")
        user_login_failed.connect(receivers.on_login_failed, dispatch_uid="monitoring.login_failed")
        metrics.offer("dagger_auth_failures_total", receivers.auth_failures.read)
