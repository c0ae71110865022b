"""One-time tokens that an operator hands over: with one its account chooses a password, once.

Django's generator signs them over the present password's hash, so that using one ends it and every other of the
account. No row is kept. They end `PASSWORD_RESET_TIMEOUT` seconds after they were made, and with the account.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.db import transaction
from django.utils import timezone

from apps.accounts import services
from apps.accounts.models import User
from apps.core.errors import Unauthenticated

MAX_LENGTH = 200


class _Generator(PasswordResetTokenGenerator):
    key_salt = "apps.accounts.one_time"

    def _make_hash_value(self, user: User, timestamp: int) -> str:
        # Not `last_login`, as Django has it: who knows the old password could hinder the new one by logging in.
        return f"{user.pk}:{user.password}:{timestamp}"


_generator = _Generator()


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """What an operator hands over."""

    token: str
    expires_at: datetime


def issue(user: User, *, by: services.Actor) -> Handed:
    """A token with which `user` chooses a password. Raises `Denied` for an account that holds more than `by`."""
    services.check_may_change(user, by=by)
    lifetime = timedelta(seconds=settings.PASSWORD_RESET_TIMEOUT)
    return Handed(token=f"{user.pk.hex}.{_generator.make_token(user)}", expires_at=timezone.now() + lifetime)


@transaction.atomic
def redeem(token: str, password: str) -> None:
    """Set the password of the account that `token` was made for, and end its sessions.

    Raises `Unauthenticated` for a token that does not hold, one answer for every reason; `Invalid` for a weak
    password, and then the token still holds.
    """
    name, _, signature = token.partition(".")
    try:
        # Locked, so that of parallel uses the second sees the first one's password.
        user = User.objects.select_for_update().filter(pk=uuid.UUID(name), is_active=True).first()
    except ValueError:
        user = None
    if user is None or not _generator.check_token(user, signature):
        raise Unauthenticated("The token is invalid, was used, or has expired.", code="invalid_token")
    services.set_password(user, password, by=None)
