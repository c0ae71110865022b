"""A world for the matrix: a caller of each kind, and a workflow in each relation to each, with all that hangs on it."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO

from django.test import Client
from guardian.shortcuts import assign_perm

from apps.accounts import tokens
from apps.accounts.models import ApiToken, Role, User
from apps.agents import services as agents
from apps.agents.models import Agent
from apps.monitoring.models import Silence
from apps.vault import blobs
from apps.workflows.engine.states import Status
from apps.workflows.models import Artifact, Execution, Task, Workflow
from apps.workflows.services import executions, receivers, schedules, secrets, trackers, webhooks, workflows
from orchestration.matrix import CALLERS, NO_ROLE, NOBODY, RELATIONS

DEFINITION = {
    "steps": [{"id": "ask", "approval": {"allow_requester": True}}, {"id": "do", "python": "builtin.noop"}],
    "circuit_breaker": "warehouse",
}
AGENT_GRANTS = ("agent:read", "agent:update", "agent:execute", "agent:delete")
GRANTS = ("workflow:read", "workflow:update", "workflow:delete", "workflow:execute")


@dataclass
class Thing:
    """A workflow and one of everything that belongs to it; `ids` fills the places in routes."""

    workflow: Workflow
    execution: Execution
    task: Task
    webhook: object
    schedule: object
    tracker: str
    api_token: object
    secret: object
    artifact: object
    agent: object


@dataclass
class World:
    """Users by kind of caller, and things by (caller, relation)."""

    users: dict[str, User] = field(default_factory=dict)
    things: dict[tuple[str, str], Thing] = field(default_factory=dict)
    clients: dict[str, Client] = field(default_factory=dict)

    def log_in(self, caller):
        """Give the client of an account a new token."""
        token = tokens.issue(User.objects.get(pk=self.users[caller].pk)).access_token
        self.clients[caller].defaults["HTTP_AUTHORIZATION"] = f"Bearer {token}"

    def as_agent(self, thing):
        """A client that speaks as the agent of this thing, with a new credential."""
        _, raw = agents.rotate(thing.agent, by=User.objects.get(pk=thing.agent.owner_id))
        return Client(raise_request_exception=True, headers={"Authorization": f"Bearer {raw}"})

    def thing(self, caller, relation):
        return self.things[("", "foreign") if relation in ("foreign", "-") else (caller, relation)]


def made(name, owner):
    """A workflow of `owner` with an execution, and a tracker."""
    workflow = workflows.create({"name": name, **DEFINITION}, by=owner)
    execution = executions.start(workflow, by=owner)
    task = Task.objects.filter(execution=execution).order_by("pk").first()
    wanted = schedules.Wanted(name="s", cron="@daily")
    webhook, _ = webhooks.create(workflow, name="w", inputs={}, by=owner)
    report = trackers.TrackerUpdate(workflow_id=f"{name}-tracker", status=Status.IN_PROGRESS, percent=1)
    tracked = Workflow.objects.filter(slug=report.workflow_id).first()
    if tracked is None:
        tracked = workflows.create_tracker(report.workflow_id, by=owner)
    schedule = schedules.create(workflow, wanted, by=owner)
    token = ApiToken.objects.create(owner=owner, name=name, digest=name, expires_at=datetime(2100, 1, 1, tzinfo=UTC))
    secret = secrets.create(name=name.replace("-", "_"), value="a value of a secret", by=owner)
    blob = blobs.keep(BytesIO(b"of a step"))
    artifact = Artifact.objects.create(
        execution=execution, task=task, fence=1, name="a.txt", content_type="text/plain", size=blob.size,
        blob_id=blob.digest, created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    at = datetime(2026, 1, 1, tzinfo=UTC)
    agent = Agent.objects.create(name=name, owner=owner, created_at=at, updated_at=at)
    return Thing(workflow, execution, task, webhook, schedule, report.workflow_id, token, secret, artifact, agent)


def build():
    """The whole world."""
    world, stranger = World(), User.objects.create(username="stranger")
    world.things["", "foreign"] = made("foreign", stranger)
    for number, caller in enumerate(CALLERS):
        world.clients[caller] = Client(raise_request_exception=True)
        if caller == NOBODY:
            continue
        user = world.users[caller] = User.objects.create(username=f"caller-{number}")
        if caller != NO_ROLE:
            user.roles.add(Role.objects.get(name=caller))
        world.log_in(caller)
        for relation in RELATIONS[:3]:
            thing = made(f"{relation}-{number}", user if relation == "own" else stranger)
            world.things[caller, relation] = thing
            tracked = Workflow.objects.get(slug=thing.tracker)
            if relation == "shared":
                thing.secret.users.add(user)
            for code in {"own": (), "shared": GRANTS, "read": GRANTS[:1]}[relation]:
                assign_perm(code, user, thing.workflow)
                assign_perm(code, user, tracked)
            for code in {"own": (), "shared": AGENT_GRANTS, "read": AGENT_GRANTS[:1]}[relation]:
                assign_perm(code, user, thing.agent)
    receivers.create(name="ops", kind="webhook", target="https://ops.invalid/x", secret=None, by=stranger)
    return world


def silence():
    """One that holds, for whoever may end it."""
    until = {"starts_at": datetime(2026, 1, 1, tzinfo=UTC), "ends_at": datetime(2100, 1, 1, tzinfo=UTC)}
    return Silence.objects.get_or_create(comment="of the matrix", defaults={"matchers": [], **until})[0]


def path_of(route, thing):
    """The address of a route for a thing."""
    path = route.partition(" ")[2]
    head = path.split("/")[1]
    identity = {
        "workflows": thing.workflow.slug, "executions": thing.execution.pk, "tasks": thing.task.pk,
        "schedules": thing.schedule.pk, "webhooks": thing.webhook.pk, "auth": thing.api_token.pk,
        "agents": thing.agent.pk,
    }.get(head, "")  # fmt: skip
    if head == "users":
        identity = User.objects.get_or_create(username="somebody")[0].pk
    if head == "roles":
        Role.objects.get_or_create(name="custom")
    name = {
        "monitoring": "dagger_workers",
        "executions": "go",
        "queues": "default",
        "circuit-breakers": "warehouse",
        "notifications": "ops",
        "secrets": thing.secret.name,
        "roles": "custom",
    }.get(head, "")
    for place, value in {
        "{id}": identity, "{name}": name, "{workflow_id}": thing.workflow.slug, "{slug}": thing.workflow.slug,
        "{execution_id}": thing.execution.pk, "{artifact}": thing.artifact.pk,
        "{task_id}": thing.task.pk,
        "{silence_id}": silence().pk if "{silence_id}" in path else "", "{alert}": "NoWorkers",
    }.items():  # fmt: skip
        path = path.replace(place, str(value))
    return path + ("?from=1&to=1" if path.endswith("/diff") else "")


def body_of(route, thing):
    """What a request of this route says, so that nothing but the right can keep it out."""
    slug = thing.workflow.slug
    past = datetime(2026, 1, 1, tzinfo=UTC).isoformat(), datetime(2026, 1, 2, tzinfo=UTC).isoformat()
    return {
        "POST /workflows": {"name": "made by a caller", **DEFINITION},
        "POST /workflows/validate": {"name": "x", **DEFINITION},
        "PUT /workflows/{id}": {"name": slug, **DEFINITION, "description": "changed"},
        "PATCH /executions/{id}": {"priority": 2},
        "PATCH /tasks/{id}": {"priority": 2},
        "POST /executions/{id}/fork": {"step_id": "do"},
        "POST /webhooks": {"workflow_id": slug, "name": "another"},
        "POST /schedules": {"workflow_id": slug, "name": "another", "cron": "@daily"},
        "PUT /schedules/{id}": {"name": "s", "cron": "@hourly"},
        "PUT /webhooks/{id}": {"paused": True},
        "POST /schedules/preview": {"cron": "@daily"},
        "POST /schedules/{id}/backfill": {"from": past[0], "until": past[1]},
        "POST /agents": {"name": "made-by-a-caller"},
        "PATCH /agents/{id}": {"slots": 2},
        "POST /agents/{id}/heartbeat": {"tasks": []},
        "POST /secrets": {"name": "made_by_a_caller", "value": "a value of a secret"},
        "PUT /secrets/{name}": {"value": "another value of it"},
        "POST /notifications": {"name": "new", "kind": "webhook", "target": "https://ops.invalid/y"},
        "PUT /circuit-breakers/{name}": {"policy": None},
        "PUT /notifications/{name}": {"target": "https://ops.invalid/z"},
        "POST /progress/update": {"workflow_id": thing.tracker, "percent_complete": 5, "status": "in_progress"},
    }.get(route, {})


def ask(client, route, thing):
    """The answer to a real request."""
    method = route.partition(" ")[0].lower()
    content = {} if method == "get" else {"data": json.dumps(body_of(route, thing)), "content_type": "application/json"}
    if route == "POST /ui/login":
        content = {"data": {"username": "x", "password": "y"}}
    return getattr(client, method)(path_of(route, thing), **content)


def seen(answer):
    """The class of an answer: `yes`, `401`, `403` or `404`; anything from 500 on is told as it is."""
    status = answer.status_code
    if status == 302 and answer["Location"].startswith(("/admin/login", "/ui/login?")):
        return "to login"
    problem = answer.headers.get("Content-Type", "") == "application/problem+json"
    if status == 400 and problem and any(one["code"] == "unknown_workflow" for one in answer.json()["errors"]):
        return "404"  # an id in a body
    if status == 401 and problem and answer.json()["code"] in ("invalid_credentials", "invalid_token"):
        return "yes"  # let in, and then told that what was sent does not hold
    return str(status) if status in (401, 403, 404) or status >= 500 else "yes"
