"""Sub-workflows: whether they are there, and whether a chain of them comes back to itself."""

from collections.abc import Collection
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db.models import F

from apps.accounts.permissions import Permission
from apps.workflows.definition.dependencies import ancestors, components, cycle_through, is_cyclic
from apps.workflows.definition.kinds import mapping, sequence
from apps.workflows.definition.suggestions import Suggester
from apps.workflows.models import Workflow, WorkflowVersion

WORKFLOWS = 100  # looked at for one plan; what lies behind them is not known


@lru_cache(maxsize=1024)
def named_by(version: UUID) -> tuple[str, ...]:
    """The ids of the workflows that the steps of a version name outright. Versions never change."""
    steps = WorkflowVersion.objects.values_list("definition__steps", flat=True).filter(pk=version).first()
    found = (mapping(mapping(step).get("workflow")).get("id") for step in sequence(steps))
    return tuple(dict.fromkeys(each for each in found if isinstance(each, str) and "${" not in each))


class Children:
    """The sub-workflows of one workflow, as far as `user` may read them, and theirs, by their newest versions."""

    def __init__(self, workflow: Workflow, named: Collection[str], *, user: Any) -> None:
        self._user = user
        self._slugs = [workflow.slug]
        self._kinds: dict[str, str] = {workflow.slug: workflow.kind}
        self._absent: set[str] = set()
        self._suggest = Suggester()
        calls: dict[str, tuple[str, ...]] = {workflow.slug: tuple(named)}
        wanted = [each for each in calls[workflow.slug] if each not in self._kinds]
        while wanted and (room := WORKFLOWS - len(calls) - len(self._absent)) > 0:
            asked = wanted[:room]
            found = self._read(asked)
            self._absent.update(set(asked) - found.keys())
            calls.update(found)
            self._slugs.extend(found)
            behind = dict.fromkeys(each for slug in found for each in calls[slug])
            wanted = [*wanted[room:], *(each for each in behind if each not in calls and each not in self._absent)]
        self._number = {slug: number for number, slug in enumerate(self._slugs)}
        self._edges = [[self._number[each] for each in calls[slug] if each in self._number] for slug in self._slugs]
        parts = components(self._edges)
        self._reached = ancestors(self._edges, parts)
        self._circles = [part for part in parts if is_cyclic(part, self._edges)]

    def _read(self, slugs: Collection[str]) -> dict[str, tuple[str, ...]]:
        visible = Workflow.objects.visible_to(self._user, Permission.WORKFLOW_READ)
        rows = WorkflowVersion.objects.filter(
            workflow__in=visible.filter(slug__in=list(slugs)), number=F("workflow__version_number")
        )
        found = {}
        for slug, kind, version in rows.values_list("workflow__slug", "workflow__kind", "pk"):
            self._kinds[slug] = kind
            found[slug] = named_by(version)
        return found

    def objection(self, slug: str) -> str | None:
        """Why the workflow of this id cannot be a step here; None where nothing speaks against it."""
        if slug in self._absent:
            visible = [each for each in self._slugs if self._kinds[each] == Workflow.Kind.WORKFLOW]
            hint = self._suggest(slug, visible)
            return f"there is no workflow `{slug[:100]}`, or you may not know of it{hint or ': save it first'}"
        if slug not in self._number:
            return None
        if self._kinds[slug] != Workflow.Kind.WORKFLOW:
            return f"`{slug}` is not executed (it is of the kind {self._kinds[slug]}): name a workflow"
        reached = self._reached[self._number[slug]] | 1 << self._number[slug]
        for circle in self._circles:
            if any(reached >> member & 1 for member in circle):
                names = [self._slugs[number] for number in cycle_through(circle, self._edges)]
                shown = " → ".join(names if len(names) <= 10 else [*names[:5], "…", *names[-5:]])
                return f"workflows start each other in a circle: {shown}; take one of these steps out"
        return None
