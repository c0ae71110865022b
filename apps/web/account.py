"""One's own account in a browser: the login page, the second factor, the identity at the provider."""

import base64
from typing import Any

from django.conf import settings
from django.contrib.auth import views as auth_views
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from apps.accounts import oidc, second_factor
from apps.accounts.callers import identify
from apps.accounts.models import User
from apps.accounts.permissions import require_person, roles_of
from apps.accounts.ratelimit import LoginAttempt
from apps.core.api.access import AUTHENTICATED
from apps.core.errors import Invalid, Unauthenticated


class LoginView(auth_views.LoginView):
    """The login page: a name and a password, a code where the account has a second factor, the provider."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Whether codes may be asked for, and the provider's name where there is one."""
        provider = settings.ENV.OIDC_NAME if oidc.is_on() else ""
        return super().get_context_data(second_factor=settings.ENV.TOTP_ENABLED, provider=provider, **kwargs)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest) -> HttpResponse:
    """One's own roles, second factor and identity at the provider; each form's field `do` says what it does."""
    user = identify(request, page=True)
    if not isinstance(user, User):
        raise Unauthenticated("Log in first.")
    require_person(user)
    shown: dict[str, Any] = {}
    if request.method == "POST":
        try:
            shown = _done(request, user)
        except Invalid as error:
            shown = {"errors": [error.detail]}
        if not shown:
            return HttpResponseRedirect(request.path)
    context = {
        "roles": sorted(roles_of(user)),
        "totp": settings.ENV.TOTP_ENABLED,
        "state": second_factor.state_of(user),
        "provider": settings.ENV.OIDC_NAME if oidc.is_on() else "",
        "connected": oidc.is_connected(user),
        **shown,
    }
    return render(request, "ui/account.html", context)


page.required_permission = AUTHENTICATED  # type: ignore[attr-defined]


def _done(request: HttpRequest, user: User) -> dict[str, Any]:
    """Do what the form asks for; what the page shows of it, nothing where the page is simply read anew."""
    form = request.POST

    def given(name: str) -> str:
        return form.get(name) or ""

    what = given("do")
    if what == "disconnect":
        oidc.disconnect(user)
        return {}
    attempt = LoginAttempt(request)
    shown: dict[str, Any] = {}
    if what == "begin":
        setup = second_factor.begin(user, current_password=given("current_password"))
        drawn = second_factor.SealingAdapter().build_totp_svg(setup.uri).encode()
        shown = {"setup": setup, "qr": f"data:image/svg+xml;base64,{base64.b64encode(drawn).decode()}"}
    elif what == "confirm":
        shown = {"codes": second_factor.confirm(user, setup=given("setup"), code=given("code"))}
    elif what == "remove":
        second_factor.remove_own(user, current_password=given("current_password"), code=given("code"))
    else:
        raise Invalid("do: must be begin, confirm, remove or disconnect.")
    attempt.succeeded()
    return shown
