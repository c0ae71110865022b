"""Django's admin site, entered by permission and never by a flag on the user."""

from django.contrib import admin
from django.contrib.auth.views import PasswordChangeView
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse

from apps.accounts.forms import AdminLoginForm, OwnPasswordForm
from apps.accounts.permissions import Permission, holds


class PlatformAdminSite(admin.AdminSite):
    """Open to holders of `system:read` or `system:admin`; each page asks for its own permission besides."""

    site_header = "AI Orchestration Platform"
    site_title = "AI Orchestration Platform"
    index_title = "Operate"
    site_url = "/ui/"
    login_form = AdminLoginForm

    def has_permission(self, request: HttpRequest) -> bool:
        """Whether the caller may see the site at all."""
        user = request.user
        return user.is_authenticated and (holds(user, Permission.SYSTEM_READ) or holds(user, Permission.SYSTEM_ADMIN))

    def password_change(self, request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponseBase:  # type: ignore[override]
        """One's own password; written by `services`, so that every other session ends."""
        request.current_app = self.name
        view = PasswordChangeView.as_view(
            form_class=OwnPasswordForm,
            success_url=reverse("admin:password_change_done", current_app=self.name),
            template_name="registration/password_change_form.html",
            extra_context={**self.each_context(request), **(extra_context or {})},
        )
        return view(request)
