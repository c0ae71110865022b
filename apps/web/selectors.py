"""What each page shows, as its template's context. Reads only; every row comes through a gate of permissions."""

from typing import Any

import yaml
from django.conf import settings

from apps.accounts.permissions import Permission, holds
from apps.core.clock import database_now
from apps.core.errors import NotFound
from apps.monitoring import situation
from apps.progress.credentials import may_watch
from apps.web.execution import NOT_FOUND, execution
from apps.workflows.models import Workflow
from apps.workflows.selectors import overview, statistics
from apps.workflows.selectors.breakers import breakers_now

__all__ = ["execution", "start", "workflow"]

MAX_OPEN = 20
MAX_ENDED = 12
MAX_WORKFLOWS = 8


def start(user: Any, *, base: str) -> dict[str, Any]:
    """The start page. `base` is the address of this server, for the commands it shows."""
    now = database_now()
    return {
        "now": now,
        "base": base,
        "counts": overview.counts(user, now),
        "open_executions": overview.open_ones(user, MAX_OPEN),
        "ended_executions": overview.ended(user, MAX_ENDED),
        "workflows": list(overview.workflows_of(user).exclude(kind=Workflow.Kind.TASKS)[:MAX_WORKFLOWS]),
        "performers": _performers(user),
        "breakers": breakers_now() if holds(user, Permission.MONITORING_READ) else [],
        "may_move_breakers": holds(user, Permission.MONITORING_UPDATE),
        "situation": situation.now() if holds(user, Permission.MONITORING_READ) else None,
        "may_watch": may_watch(user),
        "may_create": holds(user, Permission.WORKFLOW_CREATE),
    }


def workflow(user: Any, slug: str, *, base: str) -> dict[str, Any]:
    """The page of one workflow. Raises `NotFound`."""
    row = overview.workflows_of(user).select_related("owner").filter(slug=slug).first()
    if row is None:
        raise NotFound(NOT_FOUND)
    version = row.versions.select_related("created_by").get(number=row.version_number)
    return {
        "now": database_now(),
        "base": base,
        "workflow": row,
        "version": version,
        "definition": yaml.safe_dump(version.definition, sort_keys=False, allow_unicode=True, width=100),
        "step_count": len(version.definition.get("steps") or ()),
        "executions": list(overview.executions_of(user).filter(workflow=row)[:MAX_ENDED]),
        "may_watch": Workflow.objects.visible_to(user, Permission.PROGRESS_READ).filter(pk=row.pk).exists(),
    }


def _performers(user: Any) -> dict[str, Any] | None:
    """Workers by state, the steps they perform and those that nobody has taken yet; for those who may monitor."""
    if not holds(user, Permission.MONITORING_READ):
        return None
    now = database_now()
    backlogs = statistics.backlogs(now).values()
    return {
        **statistics.workers(now, lease_seconds=settings.ENV.LEASE_SECONDS),
        "performed": statistics.steps_performed(),
        "ready": sum(backlog.depth for backlog in backlogs),
        "oldest_seconds": max((backlog.oldest_seconds for backlog in backlogs), default=0.0),
    }
