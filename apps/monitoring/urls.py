"""Routes under /monitoring/, without trailing slash."""

from django.urls import path

from apps.monitoring.api import views

urlpatterns = [
    path("metrics", views.MetricsView.as_view(), name="monitoring-metrics"),
    path("metrics/<str:name>", views.MetricView.as_view(), name="monitoring-metric"),
    path("dagger/metrics", views.DaggerMetricsView.as_view(), name="monitoring-dagger-metrics"),
    path("dagger/metrics/<str:name>", views.DaggerMetricView.as_view(), name="monitoring-dagger-metric"),
    path("dagger/status", views.DaggerStatusView.as_view(), name="monitoring-dagger-status"),
    path("health/live", views.LiveView.as_view(), name="monitoring-health-live"),
    path("health/ready", views.ReadyView.as_view(), name="monitoring-health-ready"),
]
