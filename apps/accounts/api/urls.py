"""Routes under /auth, and /users and /roles; without trailing slash."""

from django.urls import URLPattern, URLResolver, include, path
from rest_framework.routers import SimpleRouter

from apps.accounts.api import api_tokens, passwords, second_factor, views
from apps.accounts.api.accounts import RoleViewSet, UserViewSet

router = SimpleRouter(trailing_slash=False)
router.register("users", UserViewSet, basename="user")
router.register("roles", RoleViewSet, basename="role")

auth: list[URLPattern | URLResolver] = [
    path("token", views.TokenView.as_view(), name="auth-token"),
    path("refresh", views.RefreshView.as_view(), name="auth-refresh"),
    path("logout", views.LogoutView.as_view(), name="auth-logout"),
    path("logout-all", views.LogoutAllView.as_view(), name="auth-logout-all"),
    path("me", views.MeView.as_view(), name="auth-me"),
    path("password", passwords.OwnPasswordView.as_view(), name="auth-password"),
    path("reset-password", passwords.ResetView.as_view(), name="auth-reset-password"),
    path("second-factor", second_factor.SecondFactorView.as_view(), name="auth-second-factor"),
    path("second-factor/confirm", second_factor.ConfirmView.as_view(), name="auth-second-factor-confirm"),
    path("second-factor/remove", second_factor.RemoveView.as_view(), name="auth-second-factor-remove"),
    path("api-tokens", api_tokens.ApiTokenViewSet.as_view({"get": "list", "post": "create"}), name="api-tokens"),
    path(
        "api-tokens/<uuid:id>",
        api_tokens.ApiTokenViewSet.as_view({"get": "retrieve", "delete": "destroy"}),
        name="api-token",
    ),
]

urlpatterns: list[URLPattern | URLResolver] = [path("auth/", include(auth)), *router.urls]
