"""A person's yes or no to a step that waits for it. The first word counts."""

import json
from collections.abc import Mapping
from typing import Any

from apps.accounts.models import User
from apps.core.errors import Conflict, Denied, Invalid, NotFound, Problem
from apps.workflows.definition.input_schemas import schema_problem
from apps.workflows.definition.inputs import resolve_inputs
from apps.workflows.engine.types import Decided, Decision, Reject
from apps.workflows.models import Task
from apps.workflows.selectors.approvals import Asked, asked_of, is_asked, requested_by
from apps.workflows.services.ledger import unit_of
from apps.workflows.services.stopping import write

MAX_FORM = 64 * 1024  # bytes of JSON


def decide(task: Task, *, approved: bool, by: User, form: Mapping[str, Any] | None = None, reason: str = "") -> None:
    """Approve or reject what `task` waits for; that `by` may execute tasks of its workflow is the caller's to ask.

    Raises `Denied` where somebody else is asked, or `by` requested the execution himself; `Invalid` with pointers
    below `/form` where the form is not filled in as it must be; `Conflict` ("not_waiting") when it waits for no
    approval, or somebody has decided before.
    """
    asked = asked_of(task)
    if asked is None:
        raise _not_waiting(task)
    _may(task, asked, by)
    data = _filled_in(asked, form or {}) if approved else {}
    happening = Decided(step_id=task.step_id, approved=approved, by=by.get_username(), data=data, reason=reason)
    decision: Decision | None = None
    with unit_of([task.execution_id]) as unit:
        if task.execution_id in unit.held:
            decision = write(unit, unit.happen(task.execution_id, happening))
    if decision is None:
        raise NotFound("there is no such task")
    task.refresh_from_db()
    if isinstance(decision, Reject):
        raise _not_waiting(task)


def _not_waiting(task: Task) -> Conflict:
    return Conflict(f"`{task.step_id}` does not wait for an approval: it is {task.status}", code="not_waiting")


def _may(task: Task, asked: Asked, by: User) -> None:
    if not is_asked(asked, by):
        raise Denied("somebody else is asked: see `approval.who` of the task", code="not_asked")
    if not asked.allow_requester and requested_by(task, by):
        raise Denied(
            "who requested the execution may not decide on it: ask somebody else, or set `allow_requester: true`",
            code="own_request",
        )


def _filled_in(asked: Asked, form: Mapping[str, Any]) -> dict[str, Any]:
    """The form, checked. Raises `Invalid` with every problem, `Conflict` where no form could fit."""
    if len(json.dumps(form, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")) > MAX_FORM:
        raise _refused([Problem(pointer="/form", code="too_large", message=f"at most {MAX_FORM:,} bytes of JSON")])
    if not asked.form:
        if form:
            raise _refused([Problem(pointer="/form", code="unknown_field", message="this approval asks for no form")])
        return {}
    if found := schema_problem(asked.form):
        raise Conflict(
            f"the form of this approval is no usable JSON Schema ({found[1]}): reject it, and correct the definition",
            code="bad_form",
        )
    try:
        # The bounds on patterns and depth are those of the inputs of a workflow.
        return dict(resolve_inputs({"form": asked.form}, {"form": form})["form"])
    except Invalid as wrong:
        raise _refused(
            [
                Problem(pointer=problem.pointer.removeprefix("/inputs"), code="bad_form", message=problem.message)
                for problem in wrong.problems
            ]
        ) from None


def _refused(problems: list[Problem]) -> Invalid:
    return Invalid("the form does not fit what the approval asks for", code="invalid_form", problems=problems)
