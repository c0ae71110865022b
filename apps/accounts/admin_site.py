"""Django's admin site, entered by permission and never by a flag on the user."""

import functools
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.views import PasswordChangeView, redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from apps.accounts.audit import is_refusal, refused
from apps.accounts.forms import OwnPasswordForm
from apps.accounts.permissions import Permission, holds
from apps.accounts.ratelimit import LoginAttempt
from apps.core.errors import Denied, PlatformError

_NAMES = {
    "Authenticator": "Second factors", "SocialAccount": "Identities (OpenID Connect)",
    **{f"{one}UserPermission": f"Grants on {one.lower()}s, to people" for one in ("Workflow", "Agent")},
    **{f"{one}GroupPermission": f"Grants on {one.lower()}s, to groups" for one in ("Workflow", "Agent")},
    **{f"{one}RolePermission": f"Grants on {one.lower()}s, to roles" for one in ("Workflow", "Agent")},
}  # fmt: skip


class PlatformAdminSite(admin.AdminSite):
    """Open to holders of `system:read` or `system:admin`; each page asks for its own permission besides."""

    site_header = "AI Orchestration Platform"
    site_title = "AI Orchestration Platform"
    index_title = "Operate"
    site_url = "/ui/"

    def has_permission(self, request: HttpRequest) -> bool:
        """Whether the caller may see the site at all."""
        user = request.user
        return user.is_authenticated and (holds(user, Permission.SYSTEM_READ) or holds(user, Permission.SYSTEM_ADMIN))

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """What belongs to accounts in one place and in our words, whichever library keeps it."""
        apps: list[Any] = super().get_app_list(request, app_label)
        if home := next((app for app in apps if app["app_label"] == "accounts"), None):
            for app in [app for app in apps if app["app_label"] in ("auth", "mfa", "socialaccount")]:
                apps.remove(app)
                home["models"] += app["models"]
        for app in apps:
            for model in app["models"]:
                model["name"] = _NAMES.get(model["object_name"], model["name"])
            app["models"].sort(key=lambda model: str(model["name"]).casefold())
        return apps

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        """As Django's; what a page refuses is told to the audit log, as the API's refusals are."""
        return super().admin_view(_telling(view), cacheable)

    def login(self, request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponse:  # noqa: ARG002
        """There is one door: the login page, which asks for the second factor, too."""
        following = request.GET.get("next", reverse("admin:index"))
        if self.has_permission(request):
            safe = url_has_allowed_host_and_scheme(following, allowed_hosts={request.get_host()})
            return HttpResponseRedirect(following if safe else reverse("admin:index"))
        if request.user.is_authenticated:
            refused("admin.enter", by=request.user.pk)
            raise Denied("This needs the permission system:read or system:admin.")
        return redirect_to_login(following, settings.LOGIN_URL)

    def password_change(self, request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponseBase:  # type: ignore[override]
        """One's own password; written by `services`, so that every other session ends."""
        request.current_app = self.name
        # Whoever found an open session must not guess the password.
        attempt = LoginAttempt(request) if request.method == "POST" else None
        view = PasswordChangeView.as_view(
            form_class=OwnPasswordForm,
            success_url=reverse("admin:password_change_done", current_app=self.name),
            template_name="registration/password_change_form.html",
            extra_context={**self.each_context(request), **(extra_context or {})},
        )
        response = view(request)
        if attempt is not None and response.status_code == 302:
            attempt.succeeded()
        return response


def _telling(view: Any) -> Any:
    @functools.wraps(view)
    def told(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return view(request, *args, **kwargs)
        except (PermissionDenied, PlatformError) as error:
            if is_refusal(error):
                page = str(getattr(request.resolver_match, "url_name", ""))
                _, noun, verb = parts if len(parts := page.split("_", 2)) == 3 else ("", "", page)
                about = next(iter(kwargs.values()), "")
                refused(f"admin.{verb}", by=request.user.pk, object_type=noun, object_id=about)
            raise

    return told
