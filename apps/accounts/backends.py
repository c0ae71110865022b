"""How a password becomes an account: Django's backend, and the second factor where the account has one."""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest

from apps.accounts import second_factor
from apps.accounts.models import User


class PasswordBackend(ModelBackend):
    """The only backend that takes a password, so the only place where a code can be forgotten."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        code: str = "",
        **kwargs: Any,
    ) -> User | None:
        """The account; `None` for a wrong password. Raises `Unauthenticated` for a missing or wrong code, `TooMany`."""
        user = super().authenticate(request, username=username, password=password, **kwargs)
        if not isinstance(user, User):
            return None
        second_factor.check(user, code, request=request)
        return user
