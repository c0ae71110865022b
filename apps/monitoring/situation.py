"""What an operator wants first: what burns, what waits, what is stuck. One look for the page and `manage.py status`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings

from apps.core.clock import database_now
from apps.monitoring.alerts import upstream
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
    burning, unknown = _burning()
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


def _burning() -> tuple[list[Burning], str]:
    found = {
        (row.name, str(row.labels.get("severity", "")), str(row.annotations.get("summary", "")))
        for row in Notice.objects.filter(ends_at__isnull=True)
    }
    unknown = ""
    if settings.ENV.ALERTMANAGER_URL:
        try:
            for one in upstream.alerts():
                labels, texts = dict(one.get("labels") or {}), dict(one.get("annotations") or {})
                if labels.get("severity") != "none" and dict(one.get("status") or {}).get("state") != "suppressed":
                    severity = str(labels.get("severity", ""))
                    found.add((str(labels.get("alertname")), severity, str(texts.get("summary", ""))))
        except upstream.Unreachable as error:
            unknown = f"the Alertmanager does not answer: {error}"
    order = ("critical", "warning", "info")
    ranked = sorted(found, key=lambda one: (order.index(one[1]) if one[1] in order else len(order), one))
    return [Burning(name=name, severity=severity, summary=summary) for name, severity, summary in ranked], unknown
