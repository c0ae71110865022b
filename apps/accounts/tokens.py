"""Access and refresh tokens: issued, read, rotated, revoked.

simplejwt signs and checks them (HS256, issuer, audience and type pinned). The newest key signs, those of
`JWT_SIGNING_KEYS_OLD` are still believed; `kid` says which it was, and leads nowhere but to these. What
a signature cannot know is in rows:
an access token holds while its user is active, its `ver` is the user's `token_version`, and its family of refresh
tokens is not revoked; a refresh token is used by claiming its row.
"""

import functools
import hashlib
import logging
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import jwt
from django.conf import settings
from django.contrib.auth.models import update_last_login
from django.db import transaction
from django.db.models import BigIntegerField, Exists, F, OuterRef, QuerySet, UUIDField
from django.utils import timezone
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenError
from rest_framework_simplejwt.tokens import Token

from apps.accounts.audit import record
from apps.accounts.models import RefreshFamily, RefreshToken, User
from apps.core.errors import Unauthenticated
from apps.core.prepared import Parameter, Prepared

ALGORITHM = "HS256"
ISSUER = "ai-orchestration-platform"
AUDIENCE = "ai-orchestration-platform/api"
MAX_TOKEN_LENGTH = 4096

logger = logging.getLogger(__name__)


def key_id(key: str) -> str:
    """The `kid` of tokens signed with `key`: tells keys apart and says nothing of them."""
    return hashlib.sha256(b"kid:" + key.encode()).hexdigest()[:16]


class _Backend(TokenBackend):
    """simplejwt's, with several keys: the first signs, `kid` chooses the one that checks."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._newest = keys[0]
        super().__init__(ALGORITHM, signing_key=keys[0], audience=AUDIENCE, issuer=ISSUER, leeway=0)
        self._kid = key_id(keys[0])
        self._keys = {key_id(key): key for key in keys}

    def encode(self, payload: dict[str, Any]) -> str:
        """As simplejwt's, with `kid` in the header."""
        claims = {**payload, "aud": self.audience, "iss": self.issuer}
        return jwt.encode(claims, self._newest, algorithm=self.algorithm, headers={"kid": self._kid})

    def get_verifying_key(self, token: Any) -> str:
        """The key that `kid` names; the signing key for a token without one. Raises `TokenBackendError`."""
        try:
            kid = jwt.get_unverified_header(token).get("kid", self._kid)
            return self._keys[kid]
        except (jwt.InvalidTokenError, KeyError, TypeError) as error:
            raise TokenBackendError("Token is invalid") from error


@functools.cache
def _backend(keys: tuple[str, ...]) -> TokenBackend:
    return _Backend(keys)


class _Token(Token):
    """simplejwt's token under our keys, issuer and audience."""

    def get_token_backend(self) -> TokenBackend:
        return _backend((settings.JWT_SIGNING_KEY, *settings.JWT_SIGNING_KEYS_OLD))


class _Access(_Token):
    token_type = "access"  # noqa: S105
    lifetime: timedelta = settings.ACCESS_TOKEN_LIFETIME


class _Refresh(_Token):
    token_type = "refresh"  # noqa: S105
    lifetime: timedelta = settings.REFRESH_TOKEN_LIFETIME


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a token with a good signature says; whether it still holds is in the database."""

    user_id: uuid.UUID
    version: int
    family_id: uuid.UUID
    jti: uuid.UUID
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What a login or a refresh answers; `expires_in` is the access token's life in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int


def issue(user: User) -> Pair:
    """A pair of a new family, for a login that succeeded; families that expired are removed on the way."""
    with transaction.atomic():
        now = timezone.now()
        RefreshFamily.objects.filter(user=user, expires_at__lt=now).delete()
        family = RefreshFamily.objects.create(user=user, expires_at=now + _Refresh.lifetime)
        update_last_login(User, user)
        return _pair(user, family)


def rotate(raw: str) -> tuple[User, Pair]:
    """The user and the next pair for a refresh token that was never used.

    Raises `Unauthenticated` otherwise; where the token was used before, its whole family is revoked first, because
    one of the two who used it is a thief.
    """
    claims = _read(_Refresh, raw)
    rotated = _rotate(claims)
    if rotated is None:
        raise _invalid()
    return rotated


@transaction.atomic
def _rotate(claims: Claims) -> tuple[User, Pair] | None:
    # The family's lock puts parallel uses in a row; on SQLite the write transaction does.
    family = RefreshFamily.objects.select_for_update().filter(pk=claims.family_id, user_id=claims.user_id).first()
    user = User.objects.filter(pk=claims.user_id, is_active=True, token_version=claims.version).first()
    if family is None or family.revoked_at is not None or user is None:
        return None
    now = timezone.now()
    # One table in WHERE: with a join PostgreSQL would re-check an old snapshot and let two claims succeed.
    if not RefreshToken.objects.filter(pk=claims.jti, family=family, used_at=None).update(used_at=now):
        RefreshFamily.objects.filter(pk=family.pk).update(revoked_at=now)
        logger.warning("a spent refresh token was used again; its family is revoked", extra={"user": str(user.pk)})
        record("auth.refresh-reuse", obj=user, outcome="denied")
        return None
    family.tokens.filter(expires_at__lt=now).delete()
    RefreshFamily.objects.filter(pk=family.pk).update(expires_at=now + _Refresh.lifetime)
    return user, _pair(user, family)


def revoke_family(family_id: uuid.UUID) -> None:
    """End one login: its refresh token and every access token made from it."""
    RefreshFamily.objects.filter(pk=family_id, revoked_at=None).update(revoked_at=timezone.now())


@transaction.atomic
def revoke_all(user: User) -> None:
    """End every session and token of `user`; the object in hand gets the new version, too."""
    RefreshFamily.objects.filter(user=user, revoked_at=None).update(revoked_at=timezone.now())
    User.objects.filter(pk=user.pk).update(token_version=F("token_version") + 1)
    user.token_version = User.objects.values_list("token_version", flat=True).get(pk=user.pk)


def read_access_token(raw: str) -> Claims:
    """The claims of an access token with a good signature; no database. Raises `Unauthenticated`."""
    return _read(_Access, raw)


def user_of(claims: Claims) -> User:
    """The user, while the token holds: active, of this version, family not revoked (one query).

    Raises `Unauthenticated`.
    """
    user = _HOLDER.first(user=claims.user_id, version=claims.version, family=claims.family_id)
    if user is None:
        raise _invalid()
    return user


def _holders() -> QuerySet[User]:
    family = Parameter("family", UUIDField())
    live = RefreshFamily.objects.filter(pk=family, user=OuterRef("pk"), revoked_at=None)
    version = Parameter("version", BigIntegerField())
    return User.objects.filter(Exists(live), pk=Parameter("user", UUIDField()), is_active=True, token_version=version)


_HOLDER = Prepared(_holders)


def users_of(claims: Collection[Claims]) -> dict[Claims, User]:
    """As `user_of`, for many at once (two queries): those that do not hold are left out."""
    if not claims:
        return {}
    asked = RefreshFamily.objects.filter(pk__in={one.family_id for one in claims}, revoked_at=None)
    live = set(asked.values_list("pk", "user_id"))
    users = User.objects.filter(is_active=True).in_bulk({one.user_id for one in claims})
    found = ((one, users.get(one.user_id)) for one in claims if (one.family_id, one.user_id) in live)
    return {one: user for one, user in found if user is not None and user.token_version == one.version}


def authenticate_access_token(raw: str) -> User:
    """The user a raw access token speaks for, in REST and in sockets. Raises `Unauthenticated`, never anything else."""
    return user_of(read_access_token(raw))


def _pair(user: User, family: RefreshFamily) -> Pair:
    access, refresh = _Access.for_user(user), _Refresh.for_user(user)
    for token in (access, refresh):
        token["ver"] = user.token_version
        token["fam"] = str(family.pk)
    RefreshToken.objects.create(
        jti=uuid.UUID(refresh["jti"]), family=family, expires_at=timezone.now() + _Refresh.lifetime
    )
    return Pair(
        access_token=str(access),
        refresh_token=str(refresh),
        expires_in=int(_Access.lifetime.total_seconds()),
    )


def _read(kind: type[_Token], raw: Any) -> Claims:
    if not isinstance(raw, str) or not raw.isascii() or len(raw) > MAX_TOKEN_LENGTH:
        raise _invalid()
    try:
        token = kind(raw)  # type: ignore[arg-type]  # simplejwt's annotation says Token, its code takes the text
        return Claims(
            user_id=uuid.UUID(token["user_id"]),
            version=int(token["ver"]),
            family_id=uuid.UUID(token["fam"]),
            jti=uuid.UUID(token["jti"]),
            expires_at=datetime.fromtimestamp(token["exp"], tz=timezone.get_default_timezone()),
        )
    except (TokenError, KeyError, ValueError, TypeError, AttributeError, OverflowError, OSError):
        raise _invalid() from None


def _invalid() -> Unauthenticated:
    return Unauthenticated("The token is invalid or has expired.", code="invalid_token")
