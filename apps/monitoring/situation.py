"""What an operator wants first: what burns, what waits, what is stuck. One look for the page and `manage.py status`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings

from apps.core.clock import database_now
from apps.monitoring.alerts import answers, silences, upstream
from apps.monitoring.alerts.texts import fingerprint
from apps.monitoring.facts import STALLED_SECONDS
from apps.monitoring.models import Notice
from apps.workflows.selectors import statistics

MOST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Burning:
    """An alert that fires."""

    name: str
    severity: str
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A queue in which steps could be claimed; `seconds` is how long the first of them could."""

    queue: str
    depth: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """An execution in progress on which nobody works, and since when nothing was heard of it."""

    execution_id: str
    workflow_id: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The worst first, at most ten of each. `alerts_unknown` says why an Alertmanager's are missing."""

    burning: Sequence[Burning]
    waiting: Sequence[Waiting]
    stuck: Sequence[Stuck]
    workers: int
    lost: int
    alerts_unknown: str = ""

    @property
    def is_well(self) -> bool:
        """Nothing burns, nothing is stuck, and whatever waits has somebody to wait for."""
        return not (self.burning or self.stuck or self.alerts_unknown) and (self.workers > 0 or not self.waiting)


def now() -> Situation:
    """As things are. For those who may read monitoring: it tells of every workflow."""
    at = database_now()
    workers = statistics.workers(at, lease_seconds=settings.ENV.LEASE_SECONDS)
    stuck = statistics.stalled(at, seconds=STALLED_SECONDS).select_related("workflow").order_by("updated_at")[:MOST]
    backlogs = sorted(statistics.backlogs(at).items(), key=lambda item: -item[1].oldest_seconds)
    burning, unknown = _burning(at)
    return Situation(
        burning=burning[:MOST],
        waiting=[
            Waiting(queue=queue, depth=backlog.depth, seconds=backlog.oldest_seconds)
            for queue, backlog in backlogs[:MOST]
        ],
        stuck=[Stuck(execution_id=str(row.pk), workflow_id=row.workflow.slug, since=row.updated_at) for row in stuck],
        workers=workers["live"],
        lost=workers["lost"],
        alerts_unknown=unknown,
    )


def _burning(at: datetime) -> tuple[list[Burning], str]:
    """What nobody has silenced; and why the Alertmanager's part is missing.

    Where a Prometheus carries the rules out, what this platform saw by itself counts only while the Alertmanager does
    not tell: the two name the same alert by different labels.
    """
    found, unknown = _seen(at), ""
    if settings.ENV.ALERTMANAGER_URL:
        try:
            told, silenced = _told()
            ours = {} if settings.ENV.PROMETHEUS_URL else {k: one for k, one in found.items() if k not in silenced}
            found = {**ours, **told}
        except upstream.Unreachable as error:
            unknown = f"the Alertmanager does not answer: {error}"
    order = ("critical", "warning", "info")
    ranked = sorted(
        set(found.values()),
        key=lambda one: (order.index(one.severity) if one.severity in order else len(order), one.name, one.summary),
    )
    return ranked, unknown


def _seen(at: datetime) -> dict[str, Burning]:
    rows = list(Notice.objects.filter(ends_at__isnull=True))
    quiet = silences.active(at) if rows else ()
    return {
        row.fingerprint: _named(row.name, row.labels, row.annotations)
        for row in rows
        if not silences.silencing(row.labels, quiet)
    }


def _told() -> tuple[dict[str, Burning], set[str]]:
    """What burns by the Alertmanager, and what is silenced there, by the fingerprints that they have here."""
    burning, silenced = {}, set()
    for one in upstream.alerts():
        labels = {str(name): str(value) for name, value in dict(one.get("labels") or {}).items()}
        key = fingerprint({name: value for name, value in labels.items() if name not in answers.EXTERNAL})
        if dict(one.get("status") or {}).get("state") == "suppressed":
            silenced.add(key)
        elif labels.get("severity") != "none":
            burning[key] = _named(str(labels.get("alertname")), labels, dict(one.get("annotations") or {}))
    return burning, silenced


def _named(name: str, labels: Mapping[str, Any], texts: Mapping[str, Any]) -> Burning:
    return Burning(name=name, severity=str(labels.get("severity", "")), summary=str(texts.get("summary", "")))
