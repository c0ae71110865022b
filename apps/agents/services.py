"""Registering agents: the only writer of their rows and of their credentials."""

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction

from apps.accounts import api_tokens
from apps.accounts.models import User
from apps.agents.models import Agent
from apps.core.clock import database_now
from apps.core.errors import Conflict, NotFound
from apps.workflows.services import leases

MOST_AGENTS = 1000
"""Of one installation."""


@transaction.atomic
def register(name: str, *, labels: Mapping[str, Any], slots: int, by: User) -> tuple[Agent, str]:
    """A new agent of `by`'s, and the text of its credential, which is nowhere else.

    Raises `Conflict` for a name that is taken and beyond `MOST_AGENTS`, `Denied` for an API token.
    """
    if Agent.objects.count() >= MOST_AGENTS:
        raise Conflict(f"there are {MOST_AGENTS:,} agents: remove one", code="too_many_agents")
    now = database_now()
    token, raw = api_tokens.create_for_agent(name, by=by)
    try:
        with transaction.atomic():
            agent = Agent.objects.create(
                name=name, labels=dict(labels), slots=slots, owner=by, token=token, created_at=now, updated_at=now
            )
    except IntegrityError:
        raise Conflict(f"there is an agent `{name}` already: choose another name", code="name_taken") from None
    return agent, raw


@transaction.atomic
def change(agent: Agent, changes: Mapping[str, Any]) -> Agent:
    """Change `labels`, `slots` or `disabled`, whatever is given. What a disabled one holds goes to others at once.

    Raises, as the other two, `NotFound` where it was removed meanwhile.
    """
    row = _locked(agent)
    for name in changes.keys() & {"labels", "slots", "disabled"}:
        setattr(row, name, changes[name])
    row.updated_at = database_now()
    row.save(update_fields=["labels", "slots", "disabled", "updated_at"])
    if row.disabled:
        _dismiss(row)
    return row


@transaction.atomic
def rotate(agent: Agent, *, by: User) -> tuple[Agent, str]:
    """A new credential; the one before is refused from now on. `by` answers for the new one. Raises `Denied`."""
    row = _locked(agent)
    before, (row.token, raw) = row.token, api_tokens.create_for_agent(row.name, by=by)
    row.updated_at = database_now()
    row.save(update_fields=["token", "updated_at"])
    if before is not None:
        api_tokens.revoke(before)
    return row, raw


@transaction.atomic
def remove(agent: Agent) -> None:
    """Remove it and its credential; what it holds goes to others at once."""
    row = _locked(agent)
    token = row.token
    row.delete()
    if token is not None:
        api_tokens.revoke(token)
    _dismiss(row)


def _locked(agent: Agent) -> Agent:
    row = Agent.objects.select_for_update(of=("self",)).select_related("token").filter(pk=agent.pk).first()
    if row is None:
        raise NotFound("there is no such agent any more")
    return row


def _dismiss(agent: Agent) -> None:
    leases.give_back_unknown(agent.performer, ())
    leases.leave(agent.performer)
