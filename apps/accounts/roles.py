"""The one table of roles and permissions an installation starts with, and its insertion where rows are missing.

What an operator edited stays edited: a role is filled only when its row is new, and an existing role is given a
permission only when that permission's row is new (a later version brought it).
"""

from collections.abc import Mapping

from django.db import transaction

from apps.accounts.permissions import Permission as P
from apps.accounts.permissions import Role as R

DESCRIPTIONS: Mapping[P, str] = {
    P.WORKFLOW_CREATE: "Create workflows",
    P.WORKFLOW_READ: "Read workflows and their executions",
    P.WORKFLOW_UPDATE: "Change workflows (each change makes a version)",
    P.WORKFLOW_DELETE: "Delete workflows",
    P.WORKFLOW_EXECUTE: "Start, pause, resume, retry and fork executions",
    P.TASK_CREATE: "Start an ad-hoc task: an execution of one step",
    P.TASK_READ: "Read tasks and why they wait",
    P.TASK_UPDATE: "Change the priority of tasks",
    P.TASK_DELETE: "Cancel tasks",
    P.TASK_EXECUTE: "Claim, approve and signal tasks",
    P.AGENT_CREATE: "Register agents",
    P.AGENT_READ: "Read agents",
    P.AGENT_UPDATE: "Change agents",
    P.AGENT_DELETE: "Remove agents",
    P.AGENT_EXECUTE: "Direct a task to an agent",
    P.SYSTEM_ADMIN: "Accounts, roles and keys",
    P.SYSTEM_READ: "Audit, workers and settings",
    P.SYSTEM_UPDATE: "Pause queues, prune, change the schedules of others",
    P.MONITORING_READ: "Metrics, alerts, rules and runbooks",
    P.MONITORING_UPDATE: "Silence alerts, open and reset breakers",
    P.PROGRESS_READ: "Read progress",
    P.PROGRESS_UPDATE: "Report progress",
}

ROLES: Mapping[R, tuple[str, frozenset[P]]] = {
    R.ADMIN: ("Full access to everything", frozenset(P)),
    R.USER: (
        "Makes workflows, runs them, and does everything with what is their own",
        frozenset(
            {
                P.WORKFLOW_CREATE,
                P.WORKFLOW_READ,
                P.WORKFLOW_UPDATE,
                P.WORKFLOW_EXECUTE,
                P.TASK_READ,
                P.TASK_EXECUTE,
                P.AGENT_READ,
                P.MONITORING_READ,
                P.PROGRESS_READ,
            }
        ),
    ),
    R.AGENT: (
        "An account that performs tasks and reports on them",
        frozenset(
            {
                P.WORKFLOW_READ,
                P.WORKFLOW_EXECUTE,
                P.TASK_READ,
                P.TASK_UPDATE,
                P.TASK_EXECUTE,
                P.AGENT_READ,
                P.PROGRESS_READ,
                P.PROGRESS_UPDATE,
            }
        ),
    ),
    R.SYSTEM: (
        "A service that operates the installation",
        frozenset(
            {
                P.WORKFLOW_READ,
                P.WORKFLOW_EXECUTE,
                P.TASK_READ,
                P.TASK_EXECUTE,
                P.AGENT_READ,
                P.SYSTEM_READ,
                P.SYSTEM_UPDATE,
                P.MONITORING_READ,
                P.MONITORING_UPDATE,
                P.PROGRESS_READ,
                P.PROGRESS_UPDATE,
            }
        ),
    ),
    R.GUEST: (
        "Reads, changes nothing",
        frozenset({P.WORKFLOW_READ, P.TASK_READ, P.AGENT_READ, P.MONITORING_READ, P.PROGRESS_READ}),
    ),
}


@transaction.atomic
def ensure(*, using: str = "default") -> None:
    """Insert the roles and permissions that have no row yet; idempotent, run after every `migrate`."""
    from apps.accounts.models import Permission, Role

    permissions = Permission.objects.using(using)
    roles = Role.objects.using(using)
    known = set(permissions.values_list("code", flat=True))
    new = [code for code in P if code not in known]
    permissions.bulk_create(
        [Permission(code=code, description=DESCRIPTIONS[code]) for code in new], ignore_conflicts=True
    )
    rows = {row.code: row for row in permissions.all()}
    existing = {role.name: role for role in roles.all()}
    for name, (description, defaults) in ROLES.items():
        role = existing.get(name)
        if role is None:
            role = roles.create(name=name, description=description)
            role.permissions.add(*(rows[code] for code in defaults))
        elif added := [rows[code] for code in new if code in defaults]:
            role.permissions.add(*added)
