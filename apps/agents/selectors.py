"""Agents as callers see them, what they hold, and whether a credential still holds: reads."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Concat
from django.utils import timezone

from apps.accounts.permissions import Permission
from apps.agents.models import Agent
from apps.workflows.engine.states import Status
from apps.workflows.models import Performer, Task
from apps.workflows.models.performers import OF_AGENT
from apps.workflows.selectors.lanes import holds


def visible_to(user: Any, permission: Permission) -> QuerySet[Agent]:
    """Those a caller may do this with, each with its presence: `load` and `seen_at`, None where it is not heard of."""
    here = Performer.objects.filter(name=Concat(Value(OF_AGENT), OuterRef("name")))
    return (
        Agent.objects.visible_to(user, permission)
        .select_related("owner", "token")
        .annotate(load=Subquery(here.values("load")), seen_at=Subquery(here.values("seen_at")))
    )


def may_direct(user: Any, requires: Collection[str]) -> bool:
    """Whether a caller without the right to direct tasks to every agent may direct this one to whoever could take it.

    So where there are agents whose labels meet what it requires, and he holds `agent:execute` on each of them.
    """
    rows = Agent.objects.filter(disabled=False).values_list("pk", "labels")
    able = [key for key, labels in rows if holds(requires, labels)]
    theirs = Agent.objects.visible_to(user, Permission.AGENT_EXECUTE).filter(pk__in=able)
    return bool(able) and theirs.count() == len(able)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A task under a lease of an agent's. `kept` says that a heartbeat has named it since it was claimed."""

    task_id: UUID
    fence: int
    step_id: str
    started_at: datetime
    kept: bool


def leases_of(agent: Agent, *, lease_seconds: float) -> list[Held]:
    """What an agent holds now."""
    rows = Task.objects.filter(
        lease_owner=agent.performer, status=Status.IN_PROGRESS, lease_expires_at__isnull=False
    ).values_list("pk", "fence", "step_id", "started_at", "lease_expires_at")
    return [
        Held(
            task_id=task,
            fence=fence,
            step_id=step,
            started_at=started,
            # A claim sets the deadline a lease after the start; only a heartbeat moves it.
            kept=(expires - started).total_seconds() > lease_seconds + 0.001,
        )
        for task, fence, step, started, expires in rows
        if started is not None and expires is not None
    ]


def load_of(performers: Collection[str]) -> dict[str, int]:
    """How many tasks each of these holds, those left out that hold none."""
    held = Task.objects.filter(
        lease_owner__in=performers, status=Status.IN_PROGRESS, lease_expires_at__isnull=False
    ).values_list("lease_owner")
    return dict(held.annotate(Count("pk")).order_by())


def good(agents: Iterable[Agent]) -> dict[UUID, Agent]:
    """Those of these agents that may still go on, with the credentials that these rows name: as they are now."""
    asked: Collection[Agent] = list(agents)
    rows = Agent.objects.filter(
        pk__in=[agent.pk for agent in asked],
        disabled=False,
        token__expires_at__gt=timezone.now(),
        token__owner__is_active=True,
    )
    found = {row.pk: row for row in rows}
    return {one.pk: row for one in asked if (row := found.get(one.pk)) and row.token_id == one.token_id}
