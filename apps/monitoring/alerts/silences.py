"""Silences where no Alertmanager is: made, ended, and which alerts they keep quiet."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AnonymousUser

from apps.accounts.models import User
from apps.core.clock import database_now
from apps.core.errors import NotFound
from apps.monitoring.models import Silence


def active(now: datetime) -> Sequence[Silence]:
    """Those that hold at this moment."""
    return list(Silence.objects.filter(starts_at__lte=now, ends_at__gt=now))


def listed() -> Sequence[Silence]:
    """Those that hold or will, the next to end first."""
    return list(Silence.objects.filter(ends_at__gt=database_now()).order_by("ends_at", "id"))


def silencing(labels: Mapping[str, str], among: Iterable[Silence]) -> list[str]:
    """The ids of those that fit these labels."""
    return [str(one.pk) for one in among if all(_fits(matcher, labels) for matcher in one.matchers)]


def create(
    *,
    matchers: Sequence[Mapping[str, Any]],
    starts_at: datetime,
    ends_at: datetime,
    comment: str,
    by: User | AnonymousUser,
) -> Silence:
    """Keep what fits quiet for that time."""
    return Silence.objects.create(
        matchers=[dict(one) for one in matchers],
        starts_at=starts_at,
        ends_at=ends_at,
        comment=comment,
        created_by=by if isinstance(by, User) else None,
    )


def expire(identity: UUID) -> None:
    """End it now. Raises NotFound where there is none that holds or will."""
    now = database_now()
    if not Silence.objects.filter(pk=identity, ends_at__gt=now).update(ends_at=now):
        raise NotFound("There is no silence of this id.")


def _fits(matcher: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    text = labels.get(matcher["name"], "")
    same = re.fullmatch(matcher["value"], text) is not None if matcher.get("is_regex") else text == matcher["value"]
    return same is bool(matcher.get("is_equal", True))
