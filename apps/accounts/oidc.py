"""Login by an OpenID Connect provider, through django-allauth; off unless `OIDC_ISSUER` names one.

An account is known by the provider's `sub` and by nothing else: never by an address or a name, which somebody else may
have chosen. Whoever has an account connects it once, logged in; where `OIDC_ROLE` is given, others get one with that
role at their first login. What the provider asks for (a second factor of its own) is the provider's affair.
"""

import logging
from typing import Any, NoReturn, cast

from allauth.account.adapter import DefaultAccountAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialAccount
from allauth.socialaccount.providers.openid_connect import views as provider_views
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST
from requests import RequestException

from apps.accounts import services
from apps.accounts.audit import record
from apps.accounts.models import Role, User
from apps.accounts.permissions import require_person
from apps.core.errors import Conflict, Denied, Invalid, Unauthenticated, Unavailable

PROVIDER = "oidc"
"""The one provider of this installation, in rows and addresses."""
_TRIES = 20

logger = logging.getLogger(__name__)


def is_on() -> bool:
    """Whether a provider is configured."""
    return bool(settings.ENV.OIDC_ISSUER)


def is_connected(user: User) -> bool:
    """Whether `user` may come by the provider."""
    return bool(SocialAccount.objects.filter(user=user, provider=PROVIDER).exists())


class AccountAdapter(DefaultAccountAdapter):
    """allauth's way to log in, without its own pages, messages, mails and further stages."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:  # noqa: ARG002
        """Nobody signs up: accounts are made by `services`."""
        return False

    def get_login_stages(self) -> list[str]:
        """None: addresses are not confirmed, and a provider asks for its own second factor."""
        return []

    def add_message(self, *_: Any, **__: Any) -> None:
        """The pages say themselves what happened."""

    def respond_user_inactive(self, request: HttpRequest, user: Any) -> NoReturn:  # noqa: ARG002
        """A disabled account, told like every login that does not hold."""
        raise Unauthenticated("This account cannot log in.", code="invalid_credentials")


class ProviderAdapter(DefaultSocialAccountAdapter):
    """What becomes of somebody whom the provider vouches for."""

    def list_apps(
        self,
        request: HttpRequest,  # noqa: ARG002
        provider: str | None = None,
        client_id: str | None = None,
    ) -> Any:
        """The one of the environment, never one of the database."""
        from allauth.socialaccount.models import SocialApp

        env = settings.ENV
        if not is_on() or provider not in (None, PROVIDER, "openid_connect"):
            return []
        if client_id not in (None, env.OIDC_CLIENT_ID):
            return []
        return [
            SocialApp(
                provider="openid_connect",
                provider_id=PROVIDER,
                name=env.OIDC_NAME,
                client_id=env.OIDC_CLIENT_ID,
                secret=env.OIDC_CLIENT_SECRET,
                settings={"server_url": env.OIDC_ISSUER, "oauth_pkce_enabled": True},
            )
        ]

    def authenticate_by_email(self, sociallogin: Any) -> None:  # noqa: ARG002
        """Never: an address is no proof of who somebody is here."""
        return

    def pre_social_login(self, request: HttpRequest, sociallogin: Any) -> None:
        """Connect whoever wants that, and make the account of somebody new where that is wanted."""
        if sociallogin.state.get("process") == "connect":
            _connect(request, sociallogin)
            return
        if sociallogin.is_existing:
            return
        if not settings.ENV.OIDC_ROLE:
            raise Denied(
                "No account is connected with this identity. Log in with your password and connect it under Account, "
                "or ask an administrator for an account.",
                code="unknown_identity",
            )
        with transaction.atomic():
            _tie(sociallogin, _made(sociallogin))

    def on_authentication_error(
        self,
        request: HttpRequest,  # noqa: ARG002
        provider: Any,  # noqa: ARG002
        error: Any = None,  # noqa: ARG002
        exception: Any = None,
        extra_context: Any = None,  # noqa: ARG002
    ) -> NoReturn:
        """Whatever went wrong between here and the provider: one page of ours, the kind of cause in the log."""
        raise _refused(exception)

    def get_connect_redirect_url(self, request: HttpRequest, socialaccount: Any) -> str:  # noqa: ARG002
        """Back to the page that the button is on."""
        return "/ui/account"


@never_cache
@require_POST
def login(request: HttpRequest) -> HttpResponse:
    """Send the browser to the provider; `process=connect` for who wants to connect the account he is logged in with.

    A page with a link and not a redirect: the content policy (`form-action`) lets no form lead to another host.
    """
    _require_on()
    if request.POST.get("process", "login") not in ("login", "connect"):
        raise Invalid("process: must be `login` or `connect`.")
    if request.POST.get("process") == "connect" and not request.user.is_authenticated:
        raise Unauthenticated("Log in first.")
    try:
        response = provider_views.login(request, provider_id=PROVIDER)
    except (RequestException, LookupError, TypeError, ValueError) as error:
        logger.warning("the OpenID Connect provider cannot be used: %s", type(error).__name__)
        raise Unavailable("The provider does not answer as it should; log in with a password, or try later.") from None
    return render(request, "ui/leave.html", {"address": response["Location"], "name": settings.ENV.OIDC_NAME})


@never_cache
@require_GET
def callback(request: HttpRequest, provider_id: str = PROVIDER) -> HttpResponse:
    """Where the provider sends the browser back to."""
    _require_on()
    try:
        return cast("HttpResponse", provider_views.callback(request, provider_id=provider_id))
    except (LookupError, TypeError, ValueError) as error:  # claims that are missing or of another kind
        raise _refused(error) from None


@transaction.atomic
def disconnect(user: User) -> None:
    """Forget the identity of `user`."""
    require_person(user)
    if SocialAccount.objects.filter(user=user, provider=PROVIDER).delete()[0]:
        record("user.disconnected", obj=user)


def _require_on() -> None:
    if not is_on():
        raise Conflict("Login by OpenID Connect is not configured here (OIDC_ISSUER).", code="not_enabled")


def _refused(error: object) -> Unauthenticated:
    logger.warning("a login by OpenID Connect was refused: %s", type(error).__name__)
    return Unauthenticated("The provider did not vouch for you; try again.", code="provider_refused")


def _tie(sociallogin: Any, user: User) -> None:
    """The identity is this account's from now on; nothing else of the account is written."""
    account = sociallogin.account
    sociallogin.account = SocialAccount.objects.create(user=user, provider=PROVIDER, uid=account.uid)
    sociallogin.user = user
    record("user.connected", obj=user)


def _connect(request: HttpRequest, sociallogin: Any) -> None:
    if not isinstance(request.user, User):
        raise Unauthenticated("Log in first.")
    if sociallogin.is_existing and sociallogin.user.pk != request.user.pk:
        raise Conflict("This identity is connected with another account.", code="identity_taken")
    if not sociallogin.is_existing and is_connected(request.user):
        raise Conflict("This account is connected with another identity; disconnect that first.", code="connected")
    if not sociallogin.is_existing:
        with transaction.atomic():
            _tie(sociallogin, request.user)


def _made(sociallogin: Any) -> User:
    """A new account for somebody the provider vouches for: no password, the role `OIDC_ROLE`, a name of its own."""
    role = Role.objects.filter(name=settings.ENV.OIDC_ROLE).first()
    if role is None:
        raise Denied("The role of new accounts (OIDC_ROLE) does not exist; ask an administrator.", code="unknown_role")
    wanted = _plain(sociallogin.user.username or sociallogin.user.email.partition("@")[0]) or "person"
    for number in range(1, _TRIES + 1):
        name = wanted if number == 1 else f"{wanted}-{number}"
        if not User.objects.filter(username__iexact=name).exists():
            return services.create_user(name, password=None, email=sociallogin.user.email, roles=[role], by=None)
    raise Conflict(f"Too many accounts are called {wanted!r}; ask an administrator.", code="username_taken")


def _plain(text: str) -> str:
    """The letters of a provider's name that a username of ours may have."""
    return "".join(letter for letter in text if letter.isascii() and (letter.isalnum() or letter in "._-"))[:100]
