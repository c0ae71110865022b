"""The second factor: a code of an authenticator app (TOTP, RFC 6238) beside the password; off unless `TOTP_ENABLED`.

django-allauth makes and checks the codes, refuses one that was used, and keeps the recovery codes; its secrets are
sealed by `core.sealing`. Whoever logs in by password is asked here, at every door: the authentication backend calls
`check`, so a door that forgets the code lets nobody in.
"""

from dataclasses import dataclass

from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret, validate_totp_code
from django.conf import settings
from django.core import signing
from django.db import transaction
from django.http import HttpRequest

from apps.accounts import services
from apps.accounts.audit import record
from apps.accounts.models import User
from apps.accounts.permissions import require_person
from apps.accounts.ratelimit import count_code
from apps.core import sealing
from apps.core.errors import Conflict, Invalid, Problem, Unauthenticated, Unavailable

SETUP_SECONDS = 600
"""How long a setup that was begun may be confirmed."""
_SALT = "apps.accounts.second_factor"
_SEALED = ("secret", "seed")
"""Where allauth keeps what is sealed: of an app, and of recovery codes."""


class SealingAdapter(DefaultMFAAdapter):
    """allauth's settings of codes, with secrets sealed under `VAULT_KEYS`."""

    def encrypt(self, text: str) -> str:
        """`text` sealed."""
        return sealing.seal(text)

    def decrypt(self, encrypted_text: str) -> str:
        """What was sealed. Raises `Unavailable` where no key opens it."""
        return sealing.unseal(encrypted_text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What an authenticator app is given: the secret, the same as `otpauth:` URI, and the token that confirms it."""

    secret: str
    uri: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Whether logins of an account need a code, and how many recovery codes are left."""

    enabled: bool
    recovery_codes_left: int


def state_of(user: User) -> State:
    """As it is now."""
    codes = Authenticator.objects.filter(user=user, type=Authenticator.Type.RECOVERY_CODES).first()
    left = len(RecoveryCodes(codes).get_unused_codes()) if codes else 0
    return State(enabled=_totp(user) is not None, recovery_codes_left=left)


def begin(user: User, *, current_password: str) -> Setup:
    """A new secret; nothing is kept until it is confirmed. Raises `Invalid` for a wrong password, `Conflict`."""
    _require_on()
    require_person(user)
    services.check_own_password(user, current_password)
    if _totp(user) is not None:
        raise Conflict("The second factor is on already; take it off first.", code="second_factor_on")
    secret = generate_totp_secret()
    token = signing.dumps({"user": str(user.pk), "secret": sealing.seal(secret)}, salt=_SALT)
    return Setup(secret=secret, uri=SealingAdapter().build_totp_url(user, secret), token=token)


@transaction.atomic
def confirm(user: User, *, setup: str, code: str) -> list[str]:
    """Turn it on with the first code of the app; gives the recovery codes, this once. Raises `Invalid`, `Conflict`."""
    _require_on()
    require_person(user)
    try:
        begun = signing.loads(setup, salt=_SALT, max_age=SETUP_SECONDS)
    except signing.BadSignature:
        begun = {}
    if begun.get("user") != str(user.pk):
        raise _wrong("setup", "this setup is not yours, or older than 10 minutes; begin again")
    if not validate_totp_code(sealing.unseal(begun["secret"]), code):
        raise _wrong("code", "this is not the code that the app shows now")
    User.objects.select_for_update().get(pk=user.pk)  # of two confirmations at once the second finds the first's
    if _totp(user) is not None:
        raise Conflict("The second factor is on already; take it off first.", code="second_factor_on")
    TOTP.activate(user, sealing.unseal(begun["secret"]))
    codes: list[str] = RecoveryCodes.activate(user).get_unused_codes()
    record("user.second-factor-on", obj=user)
    return codes


@transaction.atomic
def remove_own(user: User, *, current_password: str, code: str) -> None:
    """Take one's own off, with password and code. Raises `Invalid`."""
    require_person(user)
    services.check_own_password(user, current_password)
    if not _holds(user, code):
        raise _wrong("code", "this is neither the code that the app shows now nor an unused recovery code")
    _remove(user)


@transaction.atomic
def remove(user: User, *, by: services.Actor) -> None:
    """Take another's off, whose device is lost. Raises `Denied` for an account that holds more than `by`."""
    services.check_may_open(user, by=by)
    _remove(user)


def reseal() -> tuple[int, int, list[str]]:
    """Seal the secrets of all second factors under the first of `VAULT_KEYS`, while everything runs.

    Gives how many were sealed anew, how many were already, and whose no key opens.
    """
    anew, already, lost = 0, 0, list[str]()
    for pk in list(Authenticator.objects.order_by("pk").values_list("pk", flat=True)):
        with transaction.atomic():
            # Locked: which recovery codes were used stands in the same column.
            for row in Authenticator.objects.select_for_update(of=("self",)).select_related("user").filter(pk=pk):
                sealed = {field: str(row.data[field]) for field in _SEALED if field in row.data}
                try:
                    fresh = {field: sealing.reseal(text) for field, text in sealed.items()}
                except Unavailable:
                    lost.append(f"second factor of {row.user.get_username()}")
                    continue
                changed = sum(fresh[field] != sealed[field] for field in sealed)
                anew, already = anew + changed, already + len(sealed) - changed
                if changed:
                    row.data.update(fresh)
                    row.save(update_fields=["data"])
    return anew, already, lost


def check(user: User, code: str, *, request: HttpRequest | None) -> None:
    """Asked at each login by password, once the password was right.

    Raises `Unauthenticated`: `second_factor_required` without a code, `second_factor_wrong` for one that does not hold;
    `TooMany`.
    """
    if not settings.ENV.TOTP_ENABLED or _totp(user) is None:
        return
    if not code:
        raise Unauthenticated(
            "This account has a second factor: send the code of its app as `code`.", code="second_factor_required"
        )
    count_code(request, user.pk)
    if not _holds(user, code):
        record("auth.login", obj=user, outcome="failed", after={"because": "the second factor"})
        raise Unauthenticated("The code of the second factor is wrong or was used.", code="second_factor_wrong")


def _holds(user: User, code: str) -> bool:
    """Whether `code` is the app's present one, never used before, or a recovery code, which it uses up."""
    totp = _totp(user)
    if totp is not None and TOTP(totp).validate_code(code):
        totp.record_usage()
        return True
    codes = Authenticator.objects.filter(user=user, type=Authenticator.Type.RECOVERY_CODES).first()
    if codes is not None and RecoveryCodes(codes).validate_code(code):
        codes.record_usage()
        record("auth.recovery-code", obj=user)
        return True
    return False


def _totp(user: User) -> Authenticator | None:
    return Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).first()


def _remove(user: User) -> None:
    if Authenticator.objects.filter(user=user).delete()[0]:
        record("user.second-factor-off", obj=user)


def _require_on() -> None:
    if not settings.ENV.TOTP_ENABLED:
        raise Conflict("Second factors are off on this installation (TOTP_ENABLED).", code="not_enabled")


def _wrong(field: str, message: str) -> Invalid:
    problem = Problem(pointer=f"/{field}", code="invalid", message=message)
    return Invalid(f"{field}: {message}.", problems=[problem])
