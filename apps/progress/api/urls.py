"""Routes of progress, mounted at `progress/`; what is no id stands before `<workflow_id>`."""

from django.urls import path

from apps.progress.api import views

urlpatterns = [
    path("update", views.UpdateView.as_view(), name="progress-update"),
    path("ticket", views.TicketView.as_view(), name="progress-ticket"),
    path("<str:workflow_id>", views.SnapshotView.as_view(), name="progress"),
    path("<str:workflow_id>/history", views.HistoryView.as_view(), name="progress-history"),
    path("<str:workflow_id>/stream", views.StreamView.as_view(), name="progress-stream"),
    path("<str:workflow_id>/estimate", views.EstimateView.as_view(), name="progress-estimate"),
]
