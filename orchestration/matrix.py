"""The matrix: what every route asks, and so who gets in. Docs publish it; a test holds it against real requests.

It is written by hand and read by no server: the views declare what they ask for themselves, so that a mistake in one of
the two is found by the other.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from apps.accounts.permissions import Permission as P
from apps.accounts.permissions import Role
from apps.accounts.roles import ROLES

Answer = Literal["yes", "401", "403", "404"]
"""`yes`: let in, whatever is then said about the request itself."""

NOBODY, NO_ROLE = "anonymous", "no role"
CALLERS = (*(str(role) for role in Role), NO_ROLE, NOBODY)
"""An account of each role, an account without one, and a caller without credentials."""

RELATIONS = ("own", "shared", "read", "foreign")
"""To the workflow that a request is about: its owner; granted everything on it; granted to read it; none of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How a route decides. `sees` is what makes the object be there at all: without it the answer is 404.

    - `open`: no credential is asked for. `signed`: a signature is what counts, so everybody without one gets 401.
    - `mine`: what belongs to the caller's account; that of another is not there. `shares`: the workflow's owner, or
      `system:admin`, among those who may read it.
      Of a secret: its owner, or `system:admin`, among those who may use it.
    - `agent`: the agent that the route names, by its own credential, and no account.
    - `account`: any account. `role`: by role alone. `lists`: any account, who is shown what he may see.
    - `object`: by role, by owning the workflow, or by a grant on it. `theirs`: besides, what is changed is the caller's
      own, or he holds `system:update`. `named`: as `object`; what is not there cannot be told from what is foreign.
    """

    kind: Literal["open", "signed", "account", "mine", "role", "lists", "object", "theirs", "named", "shares", "agent"]
    permission: str = ""
    sees: str = ""


def _object(permission: P, sees: P = P.WORKFLOW_READ) -> Rule:
    return Rule(kind="object", permission=permission, sees=sees)


OPEN, SIGNED, ACCOUNT, MINE = Rule(kind="open"), Rule(kind="signed"), Rule(kind="account"), Rule(kind="mine")
ADMINISTER = Rule(kind="role", permission=P.SYSTEM_ADMIN)
SHARES = Rule(kind="shares", permission=P.SYSTEM_ADMIN, sees=P.WORKFLOW_READ)
SHARED = Rule(kind="shares", permission=P.SYSTEM_ADMIN, sees=P.SYSTEM_ADMIN)
READ, EXECUTE = _object(P.WORKFLOW_READ), _object(P.WORKFLOW_EXECUTE)
PROGRESS = _object(P.PROGRESS_READ, P.PROGRESS_READ)
TASK, SIGNAL = _object(P.TASK_READ, P.TASK_READ), _object(P.TASK_EXECUTE)
THEIRS = Rule(kind="theirs", permission=P.WORKFLOW_EXECUTE, sees=P.WORKFLOW_READ)
WORKFLOWS, TASKS = Rule(kind="lists", permission=P.WORKFLOW_READ), Rule(kind="lists", permission=P.TASK_READ)
AGENTS, ITSELF = Rule(kind="lists", permission=P.AGENT_READ), Rule(kind="agent")
AGENT = _object(P.AGENT_READ, P.AGENT_READ)
CHANGE_AGENT = _object(P.AGENT_UPDATE, P.AGENT_READ)
SHARES_AGENT = Rule(kind="shares", permission=P.SYSTEM_ADMIN, sees=P.AGENT_READ)
METRICS = Rule(kind="role", permission=P.MONITORING_READ)
MONITORS = Rule(kind="role", permission=P.MONITORING_UPDATE)
DOCS = Rule(kind="role", permission=P.WORKFLOW_READ)
OPERATE, OPERATED = Rule(kind="role", permission=P.SYSTEM_UPDATE), Rule(kind="role", permission=P.SYSTEM_READ)

ROUTES: Mapping[str, Rule] = {
    "GET /": OPEN,
    "GET /ui/": WORKFLOWS,
    "GET /ui/login": OPEN,
    "POST /ui/login": OPEN,
    "POST /ui/logout": OPEN,
    "GET /ui/account": ACCOUNT,
    "POST /ui/account": ACCOUNT,
    "POST /ui/oidc/login": OPEN,
    "GET /ui/oidc/callback": OPEN,
    "GET /ui/executions/{execution_id}": READ,
    "GET /ui/workflows/{slug}": READ,
    "POST /auth/token": OPEN,
    "POST /auth/refresh": OPEN,
    "POST /auth/logout": ACCOUNT,
    "POST /auth/logout-all": ACCOUNT,
    "GET /auth/me": ACCOUNT,
    "GET /auth/explain": ACCOUNT,
    "POST /auth/password": ACCOUNT,
    "POST /auth/reset-password": OPEN,
    "GET /auth/second-factor": ACCOUNT,
    "POST /auth/second-factor": ACCOUNT,
    "POST /auth/second-factor/confirm": ACCOUNT,
    "POST /auth/second-factor/remove": ACCOUNT,
    "GET /auth/api-tokens": ACCOUNT,
    "POST /auth/api-tokens": ACCOUNT,
    "GET /auth/api-tokens/{id}": MINE,
    "DELETE /auth/api-tokens/{id}": MINE,
    "GET /users": ADMINISTER,
    "POST /users": ADMINISTER,
    "GET /users/{id}": ADMINISTER,
    "PUT /users/{id}": ADMINISTER,
    "DELETE /users/{id}": ADMINISTER,
    "POST /users/{id}/reset-password": ADMINISTER,
    "DELETE /users/{id}/second-factor": ADMINISTER,
    "GET /roles": ADMINISTER,
    "POST /roles": ADMINISTER,
    "GET /roles/{name}": ADMINISTER,
    "PUT /roles/{name}": ADMINISTER,
    "DELETE /roles/{name}": ADMINISTER,
    "GET /audit": OPERATED,
    "GET /schema": DOCS,
    "GET /docs": DOCS,
    "GET /schema/workflow.json": DOCS,
    "GET /monitoring/metrics": METRICS,
    "GET /monitoring/metrics/{name}": METRICS,
    "GET /monitoring/dagger/metrics": METRICS,
    "GET /monitoring/dagger/metrics/{name}": METRICS,
    "GET /monitoring/dagger/status": METRICS,
    "GET /monitoring/alerts": METRICS,
    "GET /monitoring/rules": METRICS,
    "GET /monitoring/silences": METRICS,
    "POST /monitoring/silences": MONITORS,
    "DELETE /monitoring/silences/{silence_id}": MONITORS,
    "GET /monitoring/runbooks/{alert}": METRICS,
    "GET /monitoring/health/live": OPEN,
    "GET /monitoring/health/ready": OPEN,
    "POST /progress/update": Rule(kind="named", permission=P.PROGRESS_UPDATE),
    "POST /progress/ticket": Rule(kind="lists", permission=P.PROGRESS_READ),
    "GET /progress/{workflow_id}": PROGRESS,
    "GET /progress/{workflow_id}/history": PROGRESS,
    "GET /progress/{workflow_id}/estimate": PROGRESS,
    "GET /progress/{workflow_id}/stream": PROGRESS,
    "WS /progress/ws": PROGRESS,
    "GET /workflows": WORKFLOWS,
    "POST /workflows": Rule(kind="role", permission=P.WORKFLOW_CREATE),
    "POST /workflows/validate": Rule(kind="role", permission=P.WORKFLOW_READ),
    "GET /workflows/{id}": READ,
    "PUT /workflows/{id}": _object(P.WORKFLOW_UPDATE),
    "DELETE /workflows/{id}": _object(P.WORKFLOW_DELETE),
    "GET /workflows/{id}/versions": READ,
    "GET /workflows/{id}/versions/diff": READ,
    "GET /workflows/{id}/grants": SHARES,
    "PUT /workflows/{id}/grants": SHARES,
    "DELETE /workflows/{id}/grants": SHARES,
    "GET /workflows/{id}/plan": READ,
    "POST /workflows/{id}/plan": READ,
    "POST /workflows/{id}/execute": EXECUTE,
    "GET /workflows/{id}/executions": READ,
    "GET /executions": WORKFLOWS,
    "GET /executions/{id}": READ,
    "PATCH /executions/{id}": _object(P.TASK_UPDATE),
    "POST /executions/{id}/cancel": _object(P.TASK_DELETE),
    "POST /executions/{id}/pause": EXECUTE,
    "POST /executions/{id}/resume": EXECUTE,
    "POST /executions/{id}/signal/{name}": SIGNAL,
    "POST /executions/{id}/retry": EXECUTE,
    "POST /executions/{id}/fork": EXECUTE,
    "GET /executions/{id}/why": TASK,
    "GET /executions/{id}/tasks": TASK,
    "GET /executions/{id}/logs": TASK,
    "GET /executions/{id}/logs/stream": TASK,
    "GET /executions/{id}/logs.txt": TASK,
    "GET /executions/{id}/artifacts": READ,
    "GET /executions/{id}/artifacts/{artifact}": READ,
    "GET /executions/{id}/events": READ,
    "GET /tasks": TASKS,
    "POST /tasks": Rule(kind="role", permission=P.TASK_CREATE),
    "GET /tasks/{id}": TASK,
    "PATCH /tasks/{id}": _object(P.TASK_UPDATE, P.TASK_READ),
    "GET /tasks/{id}/why": TASK,
    "POST /tasks/{id}/approve": _object(P.TASK_EXECUTE, P.TASK_READ),
    "POST /tasks/{id}/reject": _object(P.TASK_EXECUTE, P.TASK_READ),
    "GET /agents": AGENTS,
    "POST /agents": Rule(kind="role", permission=P.AGENT_CREATE),
    "GET /agents/{id}": AGENT,
    "PATCH /agents/{id}": CHANGE_AGENT,
    "DELETE /agents/{id}": _object(P.AGENT_DELETE, P.AGENT_READ),
    "POST /agents/{id}/rotate": CHANGE_AGENT,
    "GET /agents/{id}/grants": SHARES_AGENT,
    "PUT /agents/{id}/grants": SHARES_AGENT,
    "DELETE /agents/{id}/grants": SHARES_AGENT,
    "POST /agents/{id}/claim": ITSELF,
    "POST /agents/{id}/heartbeat": ITSELF,
    "POST /agents/{id}/tasks/{task_id}/progress": ITSELF,
    "POST /agents/{id}/tasks/{task_id}/complete": ITSELF,
    "POST /agents/{id}/tasks/{task_id}/fail": ITSELF,
    "POST /agents/{id}/tasks/{task_id}/logs": ITSELF,
    "POST /agents/{id}/tasks/{task_id}/artifacts": ITSELF,
    "GET /queues": OPERATED,
    "POST /queues/{name}/pause": OPERATE,
    "POST /queues/{name}/resume": OPERATE,
    "GET /workers": OPERATED,
    "GET /circuit-breakers": METRICS,
    "GET /circuit-breakers/{name}": METRICS,
    "PUT /circuit-breakers/{name}": MONITORS,
    "POST /circuit-breakers/{name}/open": MONITORS,
    "POST /circuit-breakers/{name}/reset": MONITORS,
    "GET /schedules": WORKFLOWS,
    "POST /schedules": EXECUTE,
    "POST /schedules/preview": ACCOUNT,
    "GET /schedules/{id}": READ,
    "PUT /schedules/{id}": THEIRS,
    "DELETE /schedules/{id}": THEIRS,
    "POST /schedules/{id}/pause": THEIRS,
    "POST /schedules/{id}/resume": THEIRS,
    "POST /schedules/{id}/backfill": THEIRS,
    "GET /webhooks": WORKFLOWS,
    "POST /webhooks": EXECUTE,
    "GET /webhooks/{id}": READ,
    "PUT /webhooks/{id}": THEIRS,
    "DELETE /webhooks/{id}": THEIRS,
    "POST /webhooks/{id}": SIGNED,
    "POST /webhooks/{id}/rotate": THEIRS,
    "GET /secrets": ACCOUNT,
    "POST /secrets": Rule(kind="role", permission=P.WORKFLOW_CREATE),
    "GET /secrets/{name}": _object(P.SYSTEM_ADMIN, P.SYSTEM_ADMIN),
    "PUT /secrets/{name}": SHARED,
    "DELETE /secrets/{name}": SHARED,
    "GET /notifications": OPERATED,
    "POST /notifications": OPERATE,
    "GET /notifications/{name}": OPERATED,
    "PUT /notifications/{name}": OPERATE,
    "DELETE /notifications/{name}": OPERATE,
    "POST /notifications/{name}/test": OPERATE,
    "GET /notifications/{name}/deliveries": OPERATED,
}

_ALL, _VIEW = ("view", "add", "change", "delete"), ("view",)
ADMIN: Mapping[str, tuple[P, tuple[str, ...]]] = {
    "accounts/apitoken": (P.SYSTEM_ADMIN, ("view", "delete")),
    "accounts/auditentry": (P.SYSTEM_READ, _VIEW),
    "accounts/permission": (P.SYSTEM_READ, _VIEW),
    "accounts/role": (P.SYSTEM_ADMIN, _ALL),
    "accounts/user": (P.SYSTEM_ADMIN, _ALL),
    "mfa/authenticator": (P.SYSTEM_ADMIN, ("view", "delete")),
    "socialaccount/socialaccount": (P.SYSTEM_ADMIN, ("view", "delete")),
    "auth/group": (P.SYSTEM_ADMIN, _ALL),
    "vault/secret": (P.SYSTEM_ADMIN, ("view", "delete")),
    "workflows/workflow": (P.WORKFLOW_READ, _VIEW),
    "workflows/execution": (P.WORKFLOW_READ, _VIEW),
    "workflows/workflowgrouppermission": (P.SYSTEM_ADMIN, ("view", "add", "delete")),
    "workflows/workflowrolepermission": (P.SYSTEM_ADMIN, ("view", "add", "delete")),
    "workflows/workflowuserpermission": (P.SYSTEM_ADMIN, ("view", "add", "delete")),
    "workflows/task": (P.TASK_READ, _VIEW),
    "workflows/schedule": (P.WORKFLOW_READ, _VIEW),
    "workflows/webhook": (P.WORKFLOW_READ, _VIEW),
    "workflows/performer": (P.SYSTEM_READ, _VIEW),
    "agents/agent": (P.AGENT_READ, _VIEW),
    "agents/agentgrouppermission": (P.SYSTEM_ADMIN, ("view", "add", "delete")),
    "agents/agentrolepermission": (P.SYSTEM_ADMIN, ("view", "add", "delete")),
    "agents/agentuserpermission": (P.SYSTEM_ADMIN, ("view", "add", "delete")),
    "workflows/lane": (P.SYSTEM_READ, _VIEW),
    "workflows/ratelimit": (P.SYSTEM_READ, _VIEW),
    "workflows/circuitbreaker": (P.MONITORING_READ, ("view", "change")),
    "workflows/receiver": (P.SYSTEM_READ, _VIEW),
    "workflows/notification": (P.SYSTEM_READ, _VIEW),
}
"""Pages of Django's admin: what each asks for, and which verbs there are at all. The site itself asks for `system:read`
or `system:admin`."""


def held(caller: str) -> frozenset[str]:
    """What a caller of this kind holds by role, as an installation begins."""
    return frozenset(str(code) for code in ROLES[Role(caller)][1]) if caller in set(Role) else frozenset()


def relations(rule: Rule) -> tuple[str, ...]:
    """The relations that make a difference to this rule; one dash where none does."""
    if rule.kind == "mine":
        return ("own", "foreign")
    return RELATIONS if rule.kind in ("object", "theirs", "named", "shares") else ("-",)


def expected(rule: Rule, caller: str, relation: str) -> Answer:
    """What a caller of this kind is answered, who stands in `relation` to what the request is about."""
    if rule.kind == "open":
        return "yes"
    if rule.kind == "signed" or caller == NOBODY:
        return "401"
    roles = held(caller)

    def may(permission: str) -> bool:
        granted = relation == "read" and permission.endswith(":read")
        return permission in roles or relation in ("own", "shared") or granted

    if rule.kind in ("account", "lists", "agent"):
        return "403" if rule.kind == "agent" else "yes"
    own = relation == "own"
    if rule.kind == "mine":
        return "yes" if own else "404"
    if rule.kind in ("role", "named"):
        return "yes" if (rule.permission in roles if rule.kind == "role" else may(rule.permission)) else "403"
    if rule.kind == "shares":
        allowed = own or rule.permission in roles
    else:
        allowed = may(rule.permission) and (rule.kind == "object" or own or P.SYSTEM_UPDATE in roles)
    let_in: Answer = "yes" if allowed else "403"
    return let_in if may(rule.sees) else "404"


def expected_in_admin(page: str, verb: str, caller: str) -> Answer:
    """What a caller of this kind is answered on a page of the admin; 403 stands for the way back to its login, too."""
    permission, verbs = ADMIN[page]
    roles = held(caller)
    if caller == NOBODY:
        return "401"
    inside = P.SYSTEM_READ in roles or P.SYSTEM_ADMIN in roles
    return "yes" if inside and verb in verbs and permission in roles else "403"


def cells() -> Iterator[tuple[str, Rule, str, str, Answer]]:
    """(route, rule, caller, relation, answer) of every cell but the admin's."""
    for route, rule in ROUTES.items():
        for caller in CALLERS:
            for relation in relations(rule):
                if caller == NOBODY and relation not in ("-", "foreign"):
                    continue  # nobody owns nothing, and nothing is granted to nobody
                yield route, rule, caller, relation, expected(rule, caller, relation)
