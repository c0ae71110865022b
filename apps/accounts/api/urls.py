"""Routes under /auth, without trailing slash."""

from django.urls import path

from apps.accounts.api import views

urlpatterns = [
    path("token", views.TokenView.as_view(), name="auth-token"),
    path("refresh", views.RefreshView.as_view(), name="auth-refresh"),
    path("logout", views.LogoutView.as_view(), name="auth-logout"),
    path("logout-all", views.LogoutAllView.as_view(), name="auth-logout-all"),
    path("me", views.MeView.as_view(), name="auth-me"),
]
