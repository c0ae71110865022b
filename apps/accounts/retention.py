"""What accounts leave behind when a login has ended: expired sessions, and families of expired refresh tokens."""

from datetime import datetime

from django.contrib.sessions.models import Session
from django.db.models import QuerySet

from apps.accounts.models import RefreshFamily
from apps.core.retention import rows


def _sessions(now: datetime) -> QuerySet[Session]:
    return Session.objects.filter(expire_date__lt=now)


def _families(now: datetime) -> QuerySet[RefreshFamily]:
    """With their tokens; single ones that are spent go when the family's next one is made."""
    return RefreshFamily.objects.filter(expires_at__lt=now)


RULES = (rows(_sessions), rows(_families))
