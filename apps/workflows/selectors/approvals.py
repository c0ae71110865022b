"""What a task that waits for an approval asks: of whom, and which form."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.accounts.models import Role, User
from apps.accounts.permissions import Role as RoleName
from apps.accounts.permissions import roles_of
from apps.workflows.engine.expressions import NO_ITEM, Context, ExpressionError, references, render
from apps.workflows.engine.ids import execution_of, step_of
from apps.workflows.models import Execution, Task
from apps.workflows.selectors.environment import allowed_environment
from apps.workflows.selectors.graphs import graph_of

WAITING_FOR = "approval"
MOST_ABOVE = 100  # executions that a chain of sub-workflows is followed up


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Who may decide (names of roles or users; empty: whoever may execute tasks), and the form's JSON Schema."""

    who: tuple[str, ...] = ()
    allow_requester: bool = False
    form: Mapping[str, Any] = field(default_factory=dict)


def asked_of(task: Task) -> Asked | None:
    """What this task asks; None where it waits for no approval."""
    if task.waiting_for != WAITING_FOR:
        return None
    spec = graph_of(task.execution.version_id).steps[step_of(task.step_id)]
    config = spec.config
    if any(references(config)):
        left = Task.objects.filter(execution_id=task.execution_id, step_id__in=spec.reads)
        outputs = {step: {} if found is None else found for step, found in left.values_list("step_id", "outputs")}
        item = task.item if task.step_id.endswith("]") else NO_ITEM
        inputs = task.execution.inputs
        context = Context(inputs=inputs, steps=outputs, environment=allowed_environment(), item=item)
        try:
            config = render(config, context)
        except ExpressionError:
            # It was rendered when the task was opened; a variable of the environment may be gone since. Nobody is
            # let in by that.
            return Asked(who=("",))
    who, form = config.get("who"), config.get("form")
    return Asked(
        who=tuple(str(name) for name in who) if isinstance(who, list | tuple) else (str(who),) if who else (),
        allow_requester=config.get("allow_requester") is True,
        form=form if isinstance(form, Mapping) else {},
    )


def is_asked(asked: Asked, user: User) -> bool:
    """Whether `user` is among those who may decide: by name or by role; the admin role stands in for every other."""
    if not asked.who or user.get_username() in asked.who:
        return True
    held = roles_of(user)
    if held.intersection(asked.who):
        return True
    return RoleName.ADMIN in held and Role.objects.filter(name__in=asked.who).exists()


def requested_by(task: Task, user: User) -> bool:
    """Whether `user` requested the execution of this task, or one of those that it is a step of."""
    row: Execution | None = task.execution
    for _ in range(MOST_ABOVE):
        if row is None:
            return False
        if row.requested_by_id == user.pk:
            return True
        above = row.parent_task_id
        row = None if above is None else Execution.objects.filter(pk=execution_of(above)).first()
    return True
