"""Ad-hoc tasks: a single step, executed without a workflow that somebody would have to name.

Each caller has one workflow of kind `tasks`, made at first use; every different task is a version of it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeAlias

from django.db import IntegrityError, transaction
from django.utils.text import slugify

from apps.accounts.models import User
from apps.accounts.permissions import Permission, holds
from apps.core.clock import database_now
from apps.core.errors import Conflict, Denied, Invalid, Problem
from apps.workflows.engine.graph import StepSpec
from apps.workflows.models import Execution, Task, Workflow
from apps.workflows.selectors.graphs import graph_of
from apps.workflows.services import executions
from apps.workflows.services.workflows import version_saying

STEP_ID = "task"

MayDirect: TypeAlias = Callable[[Any, Collection[str]], bool]
"""Whether somebody without `agent:execute` everywhere may direct a task that requires these labels to who has them."""
_rules: list[MayDirect] = []


def asks(rule: MayDirect) -> None:
    """Ask this, too, before a task for agents: an app of a higher floor knows who they are."""
    _rules.append(rule)


def start(
    step: Mapping[str, Any],
    *,
    by: User,
    inputs: Mapping[str, Any] | None = None,
    priority: int | None = None,
    trace_id: str = "",
    trace_parent: str = "",
) -> tuple[Execution, Task]:
    """Execute one step, defined as in a workflow (its `id` may be left out); the execution and its task.

    Raises `Invalid` with every problem, with pointers into `step`; `Denied` for a step for agents where `by` may not
    direct tasks to them.
    """
    definition = {
        "name": f"Tasks of {by.get_username()}"[:200],
        # Whatever is given may be used: an ad-hoc task has nobody but its caller to check its inputs for.
        "inputs": {name: {} for name in sorted(inputs or {})},
        "steps": [{"id": STEP_ID, **step}],
    }
    with transaction.atomic():
        # The lock keeps retention from taking a version at the moment in which it is used again.
        workflow = Workflow.objects.select_for_update(no_key=True).get(pk=_workflow_of(by).pk)
        try:
            version = version_saying(workflow, definition, by=by)
        except Invalid as error:
            raise _without_the_frame(error) from None
        (only,) = graph_of(version.pk).steps.values()  # whatever it calls itself
        _check_may_direct(only, by=by)
        execution = executions.start(
            workflow, by=by, inputs=inputs, priority=priority, trace_id=trace_id, trace_parent=trace_parent,
            version=version,
        )  # fmt: skip
        return execution, Task.objects.order_by("id").filter(execution=execution)[0]


def _check_may_direct(step: StepSpec, *, by: User) -> None:
    if step.kind != "agent" or holds(by, Permission.AGENT_EXECUTE):
        return
    if not any(rule(by, step.requires) for rule in _rules):
        raise Denied(
            f"A task for agents needs the permission {Permission.AGENT_EXECUTE.value}: by a role, or on each agent "
            "whose labels meet what it requires (`agent: {requires: [...]}`), and there must be one."
        )


def _workflow_of(user: User) -> Workflow:
    """The caller's own workflow of tasks."""
    own = Workflow.objects.filter(owner=user, kind=Workflow.Kind.TASKS).order_by("id")
    if found := own.first():
        return found
    for slug in _slugs(user):
        now = database_now()
        try:
            with transaction.atomic():
                return Workflow.objects.create(
                    slug=slug, name=slug, kind=Workflow.Kind.TASKS, owner=user, created_at=now, updated_at=now
                )
        except IntegrityError:  # taken: by another call of this caller at this moment, or by somebody else
            if found := own.first():
                return found
    raise Conflict("no id is left for the workflow of your ad-hoc tasks", code="id_taken")


def _slugs(user: User) -> Iterator[str]:
    """From the user's name; where that is taken or says nothing, from his id."""
    if name := slugify(user.get_username())[:90].strip("-"):
        yield f"tasks-{name}"
    yield f"tasks-{user.pk.hex}"


def _without_the_frame(error: Invalid) -> Invalid:
    """The same problems, with pointers into the step as it was sent."""
    problems = [
        Problem(pointer=p.pointer.removeprefix("/steps/0"), code=p.code, message=p.message) for p in error.problems
    ]
    return Invalid(error.detail.replace("the definition", "the task"), code="invalid_task", problems=problems)
