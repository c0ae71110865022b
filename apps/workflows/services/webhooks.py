"""Webhooks: doors for signed requests from outside, each of which starts a workflow once, as the door's owner.

Whoever has no valid signature gets one and the same refusal, whatever the reason: it does not tell which doors exist.
The log tells the reason.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from functools import cache, partial
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from apps.accounts.models import User
from apps.accounts.permissions import Permission
from apps.core.api.parsers import loads
from apps.core.clock import database_now
from apps.core.errors import Conflict, Invalid, PlatformError, Problem, Unauthenticated
from apps.core.sealing import seal, unseal
from apps.core.signatures import new_secret, signed_message
from apps.workflows.definition.pointers import pointer
from apps.workflows.definition.references import texts
from apps.workflows.definition.schema import INPUTS
from apps.workflows.definition.suggestions import Suggester
from apps.workflows.engine.expressions import Context, ExpressionError, Reference, parse, render
from apps.workflows.models import Trigger, Webhook, Workflow
from apps.workflows.services import executions
from apps.workflows.services.requests import digest_of, once

logger = logging.getLogger(__name__)

MAX_BODY = 1 << 20  # bytes of a request
MAX_TEMPLATES = 65_536  # characters of all of them as JSON


def create(workflow: Workflow, *, name: str, inputs: Mapping[str, Any], by: User) -> tuple[Webhook, str]:
    """A door to `workflow`, owned by `by`, and its secret, which nothing tells again.

    `inputs` are templates by the name of an input; they read `${inputs.payload…}`. Raises `Invalid` with every
    problem, `Conflict` ("name_taken"; "not_executed" for trackers and ad-hoc tasks).
    """
    if workflow.kind != Workflow.Kind.WORKFLOW:
        raise Conflict(f"`{workflow.slug}` has no definition that a webhook could start", code="not_executed")
    _check(workflow, inputs)
    secret, now = new_secret(), database_now()
    try:
        with transaction.atomic():
            made = Webhook.objects.create(
                workflow=workflow,
                name=name,
                secret=seal(secret),
                inputs=inputs,
                owner=by,
                created_at=now,
                updated_at=now,
            )
    except IntegrityError:
        raise _taken(name) from None
    return made, secret


def update(
    webhook: Webhook,
    *,
    name: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    paused: bool | None = None,
) -> Webhook:
    """Change what is given. Raises `Invalid` with every problem, `Conflict` ("name_taken")."""
    if inputs is not None:
        _check(webhook.workflow, inputs)
    given = {"name": name, "inputs": inputs, "paused": paused}
    changes = {field: value for field, value in given.items() if value is not None}
    try:
        with transaction.atomic():
            Webhook.objects.filter(pk=webhook.pk).update(**changes, updated_at=database_now())
    except IntegrityError:
        raise _taken(str(name)) from None
    webhook.refresh_from_db()
    return webhook


def rotate(webhook: Webhook) -> str:
    """A new secret, which nothing tells again; the old one ends at once."""
    secret = new_secret()
    Webhook.objects.filter(pk=webhook.pk).update(secret=seal(secret), updated_at=database_now())
    webhook.refresh_from_db()
    return secret


def delete(webhook: Webhook) -> None:
    """Close the door; what it started goes on."""
    Webhook.objects.filter(pk=webhook.pk).delete()


def receive(
    webhook_id: UUID, *, headers: Mapping[str, str], body: bytes, trace_id: str = "", trace_parent: str = ""
) -> dict[str, str]:
    """Start what the door `webhook_id` starts, in the trace of its request: `{execution_id, workflow_id, status}`.

    The same message id has one effect and one answer. `headers` have lower-case names. Raises `Unauthenticated`
    ("invalid_signature") for every refusal; for a signed message also `Invalid` (the body is no JSON, or its values do
    not fit the inputs), `Unprocessable` (its id stands for another message) and `Conflict`.
    """
    row = Webhook.objects.select_related("workflow", "owner").filter(pk=webhook_id).first()
    message_id = signed_message(_secret_of(row), headers, body, now=database_now())
    if row is None or message_id is None:
        logger.info("webhook %s: %s", webhook_id, "no such webhook" if row is None else "the signature does not hold")
        raise _refused()
    owner = _acting_owner(row)
    if row.paused or owner is None:
        why = "it is paused" if row.paused else "its owner may not execute the workflow"
        logger.warning("webhook %s refused a signed request: %s", webhook_id, why)
        raise _refused()
    payload = loads(body)
    key = f"webhook:{row.pk}:{hashlib.sha256(message_id.encode()).hexdigest()}"
    digest = digest_of("POST", f"/webhooks/{row.pk}", payload)
    answer: dict[str, str] = once(owner, key, digest, partial(_start, row, owner, payload, trace_id, trace_parent))
    return answer


def _start(webhook: Webhook, owner: User, payload: Any, trace_id: str, trace_parent: str) -> dict[str, str]:
    inputs = _rendered(webhook.inputs, payload)
    started = executions.start(
        webhook.workflow, by=owner, inputs=inputs, trigger=Trigger.WEBHOOK,
        trace_id=trace_id, trace_parent=trace_parent,
    )  # fmt: skip
    Webhook.objects.filter(pk=webhook.pk).update(last_at=started.created_at)
    return {"execution_id": str(started.pk), "workflow_id": webhook.workflow.slug, "status": started.status}


def _acting_owner(webhook: Webhook) -> User | None:
    """The owner, if he is there, active, and may still execute the workflow."""
    owner = webhook.owner
    if owner is None or not owner.is_active:
        return None
    allowed = Workflow.objects.visible_to(owner, Permission.WORKFLOW_EXECUTE)
    return owner if allowed.filter(pk=webhook.workflow_id).exists() else None


def _refused() -> Unauthenticated:
    return Unauthenticated("The request is not signed for an open webhook.", code="invalid_signature")


def _taken(name: str) -> Conflict:
    return Conflict(f"this workflow has a webhook `{name}` already; choose another name", code="name_taken")


def _secret_of(row: Webhook | None) -> str:
    """The secret to compare with; for an unknown door one that nobody has, so that both take the same work."""
    try:
        return unseal(row.secret if row else _decoy())
    except PlatformError as error:
        logger.error("webhook %s: %s", row.pk if row else "", error.detail)  # noqa: TRY400 (no traceback: it is known)
        return new_secret()


@cache
def _decoy() -> str:
    return seal(new_secret())


def _rendered(templates: Mapping[str, Any], payload: Any) -> dict[str, Any]:
    """The values of the inputs. Raises `Invalid` naming the template that has none."""
    context = Context(inputs={"payload": payload})
    try:
        return dict(render(templates, context))
    except ExpressionError as error:
        where, told = pointer("inputs"), error
    for name, template in templates.items():
        try:
            render(template, context)
        except ExpressionError as error:
            where, told = pointer("inputs", name), error
            break
    problem = Problem(pointer=where, code="expression", message=told.message)
    raise Invalid(
        "The payload does not have what the webhook reads from it.", code="invalid_inputs", problems=[problem]
    )


def _check(workflow: Workflow, templates: Mapping[str, Any]) -> None:
    """Raises `Invalid` with everything that would keep these templates from ever filling the workflow's inputs."""
    definition = workflow.versions.values_list("definition", flat=True).get(number=workflow.version_number)
    declared: Mapping[str, Any] = definition.get("inputs") or {}
    if problems := [*_name_problems(templates, declared), *_template_problems(templates)]:
        raise Invalid("The webhook is not valid; `errors` lists every mistake.", problems=problems)


def _name_problems(templates: Mapping[str, Any], declared: Mapping[str, Any]) -> Iterator[Problem]:
    if len(templates) > INPUTS or len(json.dumps(templates, ensure_ascii=False)) > MAX_TEMPLATES:
        message = f"at most {INPUTS} templates, {MAX_TEMPLATES:,} characters together"
        yield Problem(pointer="/inputs", code="too_long", message=message)
        return
    suggest = Suggester()
    for name in [name for name in templates if name not in declared]:
        message = f"the workflow has no input `{name[:100]}`{suggest(name, declared)}"
        yield Problem(pointer=pointer("inputs", name), code="unknown_input", message=message)
    for name, schema in declared.items():
        if name not in templates and "default" not in schema:
            message = f"the input `{name}` has no default: give it a template"
            yield Problem(pointer=pointer("inputs", name), code="missing_input", message=message)


def _template_problems(templates: Mapping[str, Any]) -> Iterator[Problem]:
    for where, text in texts(templates, ("inputs",)):
        try:
            found = dict.fromkeys(lookup.reference for lookup in parse(text).lookups())
        except ExpressionError as error:
            message = f"{error.message} (at character {error.position + 1})"
            yield Problem(pointer=pointer(*where), code="expression", message=message)
            continue
        for reference in found:
            if not _reads_payload(reference):
                message = f"`{reference}` cannot be read here: a webhook has `${{inputs.payload}}` and nothing else"
                yield Problem(pointer=pointer(*where), code="not_available", message=message)


def _reads_payload(reference: Reference) -> bool:
    return reference.root == "inputs" and reference.path[:1] == ("payload",)
