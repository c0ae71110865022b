"""Tells of alerts where no Prometheus does: to an Alertmanager, and to the receiver named `alerts`, each change once.

A row for each alert that fires stands in the database, so several server processes tell together what one would. What
could not be told is tried again; a change that is told twice after a crash bears the same id.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Q

from apps.core.clock import database_now
from apps.monitoring.alerts import silences, upstream
from apps.monitoring.alerts.rules import Active, Fired
from apps.monitoring.models import Notice
from apps.workflows.models import Receiver
from apps.workflows.services import sending

logger = logging.getLogger(__name__)

RECEIVER = "alerts"
UNSEEN = timedelta(seconds=50)
"""An alert that no process saw fire for so long has ended."""
AGAIN = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertMessage(sending.Message):
    """A change of an alert, for a receiver of notifications."""

    alert: dict[str, Any] = field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        """As JSON tells it."""
        return {"type": self.type, **self.alert}

    def subject(self) -> str:
        """In one line."""
        state = "ended" if self.type == "alert.resolved" else self.alert["labels"].get("severity", "")
        return f"{self.alert['name']} ({state}): {self.alert['annotations'].get('summary', '')}"

    def text(self) -> str:
        """For people."""
        annotations = self.alert["annotations"]
        return "\n".join(filter(None, (self.subject(), annotations.get("description"), annotations.get("runbook_url"))))


def external() -> dict[str, str]:
    """What Prometheus adds as external labels: where this installation is."""
    return {"platform_url": settings.ENV.PLATFORM_URL.rstrip("/")}


def firing() -> list[Fired]:
    """What fired when somebody looked last."""
    return [
        Fired(name=row.name, labels=row.labels, value=row.value, active_at=row.starts_at.timestamp())
        for row in Notice.objects.filter(ends_at__isnull=True)
    ]


def keep(seen: Sequence[Active], *, tell: bool = True) -> None:
    """Note what fires and what has ended, and tell what nobody was told. With `tell` false somebody else tells."""
    now = database_now()
    firing = {one.fingerprint: one for one in seen if one.fired_at is not None and one.alert.severity != "none"}
    known = {row.fingerprint: row for row in Notice.objects.all()}
    for key, one in firing.items():
        fresh = {
            "name": one.alert.name, "labels": dict(one.labels), "annotations": one.annotations(external()),
            "value": one.value, "seen_at": now,
        }  # fmt: skip
        row = known.get(key)
        if row is None:
            starts = datetime.fromtimestamp(one.active_at, tz=now.tzinfo)
            Notice.objects.get_or_create(fingerprint=key, defaults={**fresh, "starts_at": starts})
        elif row.ends_at is not None:
            Notice.objects.filter(pk=key).update(**fresh, ends_at=None, starts_at=now, told="")
        else:
            Notice.objects.filter(pk=key).update(**fresh)
    Notice.objects.filter(ends_at__isnull=True, seen_at__lt=now - UNSEEN).update(ends_at=now, tried_at=None)
    if not tell:
        Notice.objects.filter(ends_at__isnull=False).delete()
        return
    _tell(now)
    if settings.ENV.ALERTMANAGER_URL:
        _pass_on(now)


def _tell(now: datetime) -> None:
    Notice.objects.filter(ends_at__isnull=False).filter(Q(told="resolved") | Q(told="")).delete()
    receiver = Receiver.objects.filter(name=RECEIVER).first()
    quiet = silences.active(now)
    due = Notice.objects.filter(Q(tried_at__isnull=True) | Q(tried_at__lt=now - AGAIN)).filter(
        Q(told="", ends_at__isnull=True) | Q(told="firing", ends_at__isnull=False)
    )
    for row in due:
        if silences.silencing(row.labels, quiet):
            continue
        if not Notice.objects.filter(pk=row.pk, tried_at=row.tried_at, told=row.told).update(tried_at=now):
            continue  # another process tells it
        state = "resolved" if row.ends_at else "firing"
        if receiver is not None:
            try:
                sending.send(_message(row, state, now), sending.address_of(receiver))
            except sending.NotSent as error:
                logger.warning("alerts: %s could not be told to the receiver %s: %s", row.name, RECEIVER, error)
                continue
        Notice.objects.filter(pk=row.pk).update(told=state)


def _message(row: Notice, state: str, now: datetime) -> AlertMessage:
    return AlertMessage(
        id=f"alert_{row.fingerprint}_{int(row.starts_at.timestamp())}_{state}",
        type=f"alert.{state}",
        at=now,
        alert={
            "name": row.name,
            "fingerprint": row.fingerprint,
            "labels": row.labels,
            "annotations": row.annotations,
            "value": row.value,
            "starts_at": row.starts_at.isoformat(),
            "ends_at": row.ends_at and row.ends_at.isoformat(),
        },
    )


def _pass_on(now: datetime) -> None:
    """All of them at every look, as Prometheus does: Alertmanager takes one that no longer comes for ended."""
    try:
        upstream.post(Notice.objects.all(), now)
    except upstream.Unreachable as error:
        logger.warning("alerts: the Alertmanager was not told: %s", error)
