"""Routes under /monitoring/, without trailing slash."""

from django.urls import path

from apps.monitoring.api import alerts, views

urlpatterns = [
    path("metrics", views.MetricsView.as_view(), name="monitoring-metrics"),
    path("metrics/<str:name>", views.MetricView.as_view(), name="monitoring-metric"),
    path("dagger/metrics", views.DaggerMetricsView.as_view(), name="monitoring-dagger-metrics"),
    path("dagger/metrics/<str:name>", views.DaggerMetricView.as_view(), name="monitoring-dagger-metric"),
    path("dagger/status", views.DaggerStatusView.as_view(), name="monitoring-dagger-status"),
    path("alerts", alerts.AlertsView.as_view(), name="monitoring-alerts"),
    path("rules", alerts.RulesView.as_view(), name="monitoring-rules"),
    path("silences", alerts.SilencesView.as_view(), name="monitoring-silences"),
    path("silences/<uuid:silence_id>", alerts.SilenceView.as_view(), name="monitoring-silence"),
    path("runbooks/<str:alert>", alerts.RunbookView.as_view(), name="monitoring-runbook"),
    path("health/live", views.LiveView.as_view(), name="monitoring-health-live"),
    path("health/ready", views.ReadyView.as_view(), name="monitoring-health-ready"),
]
