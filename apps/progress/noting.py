"""Subscriptions in the audit log."""

import logging
from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db import Error
from django.http import HttpRequest

from apps.accounts.audit import Actor, record
from apps.accounts.audit.recording import seldom
from apps.accounts.models import User
from apps.accounts.ratelimit import client_address

logger = logging.getLogger(__name__)


def noted(scope: Mapping[str, Any], user: User | AnonymousUser, about: str | None) -> None:
    """Tell that `user` watches `about` (None: everything), once a minute for each: sockets come back all the time.

    A log that cannot be written ends no socket.
    """
    if not seldom(f"watch:{user.pk}:{about!a}"):
        return
    try:
        actor = Actor.of(user, address=client_address(request_of(scope)))
        record("progress.subscribe", object_type="progress", object_id=about or "*", actor=actor)
    except Error:
        logger.exception("a subscription could not be put into the audit log")


def request_of(scope: Mapping[str, Any]) -> HttpRequest:
    """A handshake as far as it says where it comes from."""
    request = HttpRequest()
    request.META["REMOTE_ADDR"] = (scope.get("client") or ("",))[0]
    forwarded = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"x-forwarded-for"]
    request.META["HTTP_X_FORWARDED_FOR"] = ",".join(forwarded)
    return request
