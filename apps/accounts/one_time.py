"""One-time tokens that an operator hands over: with one its account chooses a password, once.

Django's generator signs them over the present password's hash, so that using one ends it and every other of the
account. No row is kept. They end `PASSWORD_RESET_TIMEOUT` seconds after they were made, and with the account. Each
names who made it, and counts only while he may do that: an account that has got more since is not his to open.
"""

import copy
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.db import transaction
from django.utils import timezone

from apps.accounts import services
from apps.accounts.models import User
from apps.core.errors import Denied, Unauthenticated

MAX_LENGTH = 200


class _Generator(PasswordResetTokenGenerator):
    key_salt = "apps.accounts.one_time"
    maker = ""

    def made_by(self, maker: str) -> "_Generator":
        """One whose tokens name who made them."""
        one = copy.copy(self)
        one.maker = maker
        return one

    def _make_hash_value(self, user: User, timestamp: int) -> str:
        # Not `last_login`, as Django has it: who knows the old password could hinder the new one by logging in.
        return f"{user.pk}:{user.password}:{self.maker}:{timestamp}"


_generator = _Generator()
_COMMAND = "command"  # in the place of a maker: the command line, which may everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """What an operator hands over."""

    token: str
    expires_at: datetime


def issue(user: User, *, by: services.Actor) -> Handed:
    """A token with which `user` chooses a password. Raises `Denied` for an account that holds more than `by`."""
    services.check_may_open(user, by=by)
    lifetime = timedelta(seconds=settings.PASSWORD_RESET_TIMEOUT)
    maker = _COMMAND if by is None else by.pk.hex
    signature = _generator.made_by(maker).make_token(user)
    return Handed(token=f"{user.pk.hex}.{maker}.{signature}", expires_at=timezone.now() + lifetime)


@transaction.atomic
def redeem(token: str, password: str) -> None:
    """Set the password of the account that `token` was made for, and end its sessions.

    Raises `Unauthenticated` for a token that does not hold, one answer for every reason; `Invalid` for a weak
    password, and then the token still holds.
    """
    name, _, rest = token.partition(".")
    maker, _, signature = rest.partition(".")
    try:
        # Locked, so that of parallel uses the second sees the first one's password.
        user = User.objects.select_for_update().filter(pk=uuid.UUID(name), is_active=True).first()
    except ValueError:
        user = None
    if user is None or not _generator.made_by(maker).check_token(user, signature) or not _may_still(maker, user):
        raise Unauthenticated("The token is invalid, was used, or has expired.", code="invalid_token")
    services.set_password(user, password, by=None)


def _may_still(maker: str, user: User) -> bool:
    """Whether whoever made a token, as its signature vouches, may open the account as it is now."""
    if maker == _COMMAND:
        return True
    by = User.objects.filter(pk=uuid.UUID(maker), is_active=True).first()
    try:
        if by is not None:
            services.check_may_open(user, by=by)
    except Denied:
        return False
    return by is not None
