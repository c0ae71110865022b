"""Workflows and their versions: created, changed (a new version), deleted."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.utils.text import slugify

from apps.accounts.audit import present_actor, record
from apps.accounts.models import User
from apps.accounts.permissions import Caller, Permission
from apps.core.clock import database_now
from apps.core.errors import Conflict, Invalid, Problem
from apps.workflows.definition.pointers import pointer
from apps.workflows.definition.schema import Definition
from apps.workflows.definition.validate import problems_of, validated
from apps.workflows.engine.states import TERMINAL
from apps.workflows.models import Workflow, WorkflowVersion
from apps.workflows.selectors.graphs import graph_of
from apps.workflows.selectors.performing import executors
from apps.workflows.selectors.secrets import UsableNames, uses_secrets
from apps.workflows.services import counting, labels
from apps.workflows.services.erasing import erase
from apps.workflows.services.ledger import breakers, lanes, rates

# Words that `/workflows/…` and `/progress/…` use for something else.
RESERVED = frozenset({"validate", "update", "ws", "ticket"})


def problems(data: Any, *, by: Caller) -> list[Problem]:
    """Everything wrong with a definition; empty when `by` can save it. Executes nothing."""
    return problems_of(data, **_known(by))


def _validated(data: Any, by: User) -> Definition:
    return validated(data, **_known(by))


def _known(by: Caller) -> dict[str, Any]:
    known = executors()
    return {
        "executor_configs": known.configs(),
        "known_callables": known.callables(),
        "known_secrets": UsableNames(by),
    }


def slug_for(name: str) -> str:
    """The id of a workflow of this name. Raises `Invalid` when nothing readable is left of it, or it is reserved."""
    slug = slugify(name)[:100].strip("-")
    if not slug or slug in RESERVED:
        why = f"`{slug}` is a word of the API" if slug else "no letter or digit is left for an id"
        problem = Problem(pointer="/name", code="reserved", message=f"{why}; choose another name")
        raise Invalid(f"name: {problem.message}", code="invalid_definition", problems=[problem])
    return slug


def create(data: Mapping[str, Any], *, by: User) -> Workflow:
    """Save a definition as a new workflow with its first version.

    Raises `Invalid` with every problem, `Conflict` when the id is taken.
    """
    definition = _validated(data, by)
    slug = slug_for(definition.name)
    now = database_now()
    try:
        with transaction.atomic():
            workflow = Workflow.objects.create(
                slug=slug, owner=by, name=definition.name, created_at=now, updated_at=now
            )
            _add_version(workflow, data, definition, by=by)
            _tell("create", workflow)
    except IntegrityError:
        raise Conflict(
            f"the id `{slug}` is taken; choose another name, or change that workflow", code="id_taken"
        ) from None
    return workflow


def update(workflow: Workflow, data: Mapping[str, Any], *, by: User) -> Workflow:
    """Make a new version of it; running executions keep theirs. The same definition again changes nothing.

    But where it uses secrets, it is a version of whoever saves it: its executions use them in that account's name.

    Raises `Invalid` with every problem; the id stays, whatever the new name.
    """
    if workflow.kind == Workflow.Kind.TRACKER:
        raise Conflict("a tracker has no definition: its progress is reported from outside", code="tracker")
    if workflow.kind == Workflow.Kind.TASKS:
        raise Conflict("its versions are ad-hoc tasks: POST /tasks makes one", code="tasks")
    definition = _validated(data, by)
    with transaction.atomic():
        locked = Workflow.objects.select_for_update().get(pk=workflow.pk)
        newest = locked.versions.get(number=locked.version_number)
        others = newest.created_by_id != by.pk and uses_secrets(newest)
        if newest.checksum != checksum(data) or others:
            _add_version(locked, data, definition, by=by)
        _tell("update", locked)
    return locked


def version_saying(workflow: Workflow, data: Mapping[str, Any], *, by: User) -> WorkflowVersion:
    """The version of `workflow`, which the caller has locked, with just this definition; made if there is none.

    Raises `Invalid` with every problem.
    """
    definition = _validated(data, by)
    same = WorkflowVersion.objects.filter(workflow=workflow, checksum=checksum(data)).order_by("-number")
    return same.first() or _add_version(workflow, data, definition, by=by)


def delete(workflow: Workflow) -> None:
    """Delete it with its versions, ended executions and its own series of metrics.

    Raises `Conflict` while executions run.
    """
    with transaction.atomic():
        # In the order in which whoever counts them comes to these locks: executions, then what refers to the workflow.
        list(workflow.executions.filter(counted=False).select_for_update(no_key=True).order_by("pk").values_list("pk"))
        Workflow.objects.select_for_update().get(pk=workflow.pk)
        running = workflow.executions.exclude(status__in=sorted(TERMINAL)).count()
        if running:
            raise Conflict(
                f"{running} executions of `{workflow.slug}` run; cancel them first", code="executions_running"
            )
        counting.bequeath(workflow)
        erase(Workflow.objects.filter(pk=workflow.pk))
        _tell("delete", workflow)


def _tell(verb: str, workflow: Workflow) -> None:
    """To the audit log, last in the transaction, where somebody acts: a request, a command."""
    if present_actor() is not None:
        record(f"workflow.{verb}", object_type="workflow", object_id=workflow.slug, object_name=workflow.name)


def create_tracker(slug: str, *, by: User) -> Workflow:
    """A tracker named `slug`, owned by the caller. To be called inside a transaction."""
    now = database_now()
    workflow = Workflow.objects.create(
        slug=slug, name=slug, kind=Workflow.Kind.TRACKER, owner=by, version_number=1, created_at=now, updated_at=now
    )
    data: dict[str, Any] = {"name": slug, "steps": []}
    WorkflowVersion.objects.create(
        workflow=workflow, number=1, definition=data, checksum=checksum(data), created_by=by, created_at=now
    )
    return workflow


def checksum(data: Mapping[str, Any]) -> str:
    """SHA-256 of a definition in one canonical form."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _add_version(workflow: Workflow, data: Mapping[str, Any], definition: Definition, *, by: User) -> WorkflowVersion:
    if circles := _circles(workflow.slug, definition, by=by):
        raise Invalid("the workflow would be a step of itself", code="invalid_definition", problems=circles)
    workflow.version_number += 1
    workflow.name = definition.name
    workflow.description = definition.description
    workflow.tags = list(definition.tags)
    workflow.updated_at = database_now()
    workflow.save()
    version = WorkflowVersion.objects.create(
        workflow=workflow,
        number=workflow.version_number,
        definition=data,
        checksum=checksum(data),
        created_by=by,
        created_at=workflow.updated_at,
    )
    labels.admit(workflow.pk, [step.id for step in definition.steps], now=workflow.updated_at)
    lanes.make(graph_of(version.pk))
    rates.make(graph_of(version.pk), now=workflow.updated_at)
    breakers.make(graph_of(version.pk), now=workflow.updated_at)
    return version


def _circles(slug: str, definition: Definition, *, by: User) -> list[Problem]:
    """The steps by which a workflow would be a step of itself, by way of the newest versions of others.

    Those that `by` may not read are not named.
    """
    problems = []
    for number, step in enumerate(definition.steps):
        if step.workflow is not None and (way := _way_back(slug, step.workflow.id)):
            visible = Workflow.objects.visible_to(by, Permission.WORKFLOW_READ).filter(slug__in=way)
            known = {slug, step.workflow.id, *visible.values_list("slug", flat=True)}
            shown = [name if name in known else "…" for name in (slug, *way)]
            message = f"a workflow cannot be a step of itself: {' → '.join(shown)}"
            problems.append(Problem(pointer=pointer("steps", number, "workflow", "id"), code="circle", message=message))
    return problems


def _way_back(slug: str, start: str) -> list[str]:
    """A way from `start` by its steps to `slug`; empty where there is none."""
    came_from: dict[str, str] = {start: ""}
    pending = [start]
    while pending:
        name = pending.pop()
        if name == slug:
            way = [name]
            while came_from[way[0]]:
                way.insert(0, came_from[way[0]])
            return way
        for inner in _children(name):
            if inner not in came_from:
                came_from[inner] = name
                pending.append(inner)
    return []


def _children(slug: str) -> set[str]:
    workflow = Workflow.objects.filter(slug=slug).first()
    if workflow is None:
        return set()
    definition = workflow.versions.values_list("definition", flat=True).get(number=workflow.version_number)
    return {str(step["workflow"]["id"]) for step in definition["steps"] if step.get("workflow")}
