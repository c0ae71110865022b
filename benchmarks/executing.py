"""Starting executions and waiting for their end: what all shapes on this platform share."""

import time
from collections.abc import Mapping
from functools import cache
from typing import Any

from apps.accounts.models import User
from apps.core.clock import database_now
from apps.workflows.models import Execution, Workflow
from apps.workflows.services import executions, workflows

LOOK_SECONDS = 0.05
GIVE_UP_SECONDS = 900.0


@cache
def caller() -> User:
    """Whose workflows these are."""
    return User.objects.get_or_create(username="bench")[0]


def made(definition: Mapping[str, Any]) -> Workflow:
    """The workflow of a definition, made when first asked for."""
    found = Workflow.objects.filter(name=definition["name"]).first()
    return found or workflows.create(definition, by=caller())


def start(workflow: Workflow, **options: Any) -> Execution:
    """One execution of it."""
    return executions.start(workflow, by=caller(), **options)


def wait_for(ids: list[Any]) -> list[Execution]:
    """The executions when all have completed. Ends the process when one does not."""
    rows = Execution.objects.filter(pk__in=ids)
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while rows.filter(finished_at__isnull=True).exists():
        if time.monotonic() > deadline:
            raise SystemExit(f"the workers did not finish within {GIVE_UP_SECONDS:g} s")
        time.sleep(LOOK_SECONDS)
    if bad := rows.exclude(status="completed").count():
        raise SystemExit(f"{bad} executions did not complete")
    return list(rows)


def seconds_of(workflow: Workflow, count: int = 1) -> float:
    """From before the first of `count` executions is started to the end of the last, by the database's clock."""
    began = database_now()
    ended = wait_for([start(workflow).pk for _ in range(count)])
    return (max(row.finished_at for row in ended if row.finished_at) - began).total_seconds()
