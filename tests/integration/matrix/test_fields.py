"""A9, A10, A12 over every route: foreign ids, fields nobody may set, and what a credential for tasks reaches."""

import json
from dataclasses import replace
from types import SimpleNamespace
from uuid import UUID

import pytest
from django.core.cache import cache
from django.db import transaction
from django.test import Client

from apps.accounts import api_tokens
from apps.accounts.models import User
from apps.workflows.models import Execution, Task, Workflow
from orchestration import matrix
from tests.integration.matrix import world as worlds

pytestmark = pytest.mark.django_db
HOSTILE = {
    "id": "00000000-0000-7000-8000-000000000000", "owner": "caller-0", "owner_id": 1, "status": "completed",
    "role": "admin", "is_staff": True, "is_superuser": True, "is_active": True, "attempt": 99, "epoch": 99,
    "created_at": "2020-01-01T00:00:00Z", "token_version": 0, "no_such_field": 1,
}  # fmt: skip
FREE = {
    "POST /executions/{id}/signal/{name}",  # the whole body is the payload
    "POST /webhooks/{id}",  # what a foreign system sends; only who signed it is heard
}
NOBODYS = UUID("00000000-0000-7000-8000-000000000000")


@pytest.fixture
def world(settings):
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": False})
    cache.clear()
    made = worlds.build()
    for client in made.clients.values():
        client.raise_request_exception = False
    yield made
    cache.clear()


def everything():
    """What a forged field could have changed."""
    return [
        list(model.objects.order_by("pk").values(*fields))
        for model, fields in (
            (User, ("pk", "username", "is_active", "token_version", "date_joined")),
            (Workflow, ("pk", "slug", "owner_id", "created_at", "version_number")),
            (Execution, ("pk", "status", "created_at")),
            (Task, ("pk", "status", "fence")),
        )
    ] + [sorted(User.roles.through.objects.values_list("user_id", "role__name"))]


def taking_bodies(world):
    """Routes that take a JSON body, as the OpenAPI document says, with the names that they know."""
    answer = world.clients["admin"].get("/schema", headers={"Accept": "application/vnd.oai.openapi+json"})
    document = json.loads(answer.content)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            route = f"{method.upper()} {path}"
            if content and route not in FREE:
                yield (
                    route,
                    str(document["components"]["schemas"].get(content["schema"].get("$ref", "/").rpartition("/")[2])),
                )


def test_a10_no_route_takes_a_field_that_nobody_may_set(world):
    thing, wrong, tried = world.thing("admin", "own"), [], 0
    agent = world.as_agent(thing)
    for route, known in taking_bodies(world):
        client = agent if matrix.ROUTES[route].kind == "agent" else world.clients["admin"]
        method, _, path = route.partition(" ")
        if path.startswith("/auth/"):
            world.log_in("admin")
        for name, value in HOSTILE.items():
            if f"'{name}'" in known or (route, name) == ("POST /progress/update", "status"):
                continue  # a field of this route: its own tests say what it may be
            address, body = worlds.path_of(route, thing), {**worlds.body_of(route, thing), name: value}
            before = everything()
            with transaction.atomic():
                answer = client.generic(method, address, json.dumps(body), "application/json")
                changed = everything() != before
                transaction.set_rollback(True)
            tried += 1
            told = answer.json()
            refused = answer.status_code == 400 or told.get("valid") is False  # `validate` answers with what is wrong
            pointers = [one["pointer"] for one in told.get("errors", ())]
            if not refused or not {f"/{name}", ""} & set(pointers) or changed:
                wrong.append(f"{route} {name}: {answer.status_code} {pointers} changed={changed}")
    print(f"A10: {tried} forged fields over {len(list(taking_bodies(world)))} routes")
    assert tried > 300
    assert not wrong, "\n".join(wrong)


def absent(thing):
    """Ids of the same forms that nothing bears."""
    row = SimpleNamespace(pk=NOBODYS, slug="nothing-of-this-name", name="nothing_of_this_name")
    found = dict.fromkeys(
        ("workflow", "execution", "task", "webhook", "schedule", "api_token", "secret", "artifact"), row
    )
    return replace(thing, **found, tracker="no-such-tracker")


def test_a9_every_route_tells_a_foreign_id_like_one_that_never_was(world):
    foreign, wrong, asked = world.thing("", "foreign"), [], 0
    client = world.clients[matrix.NO_ROLE]
    for route, rule in matrix.ROUTES.items():
        if rule.kind not in ("object", "theirs", "shares", "mine") or route.startswith("WS "):
            continue
        found = []
        for thing in (foreign, absent(foreign)):
            with transaction.atomic():
                answer = worlds.ask(client, route, thing)
                transaction.set_rollback(True)
            told = answer.json() if answer.headers.get("Content-Type", "").endswith("json") else {}
            body = {k: v for k, v in told.items() if k != "request_id"}
            found.append(
                (answer.status_code, json.dumps(body, sort_keys=True).replace("nothing-of-this-name", "foreign"))
            )
        asked += 1
        if found[0] != found[1] or found[0][0] not in (404, 400):
            wrong.append(f"{route}: foreign {found[0]}, absent {found[1]}")
    print(f"A9: {asked} routes with an id")
    assert asked > 40
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "path",
    [
        "/workflows?search={}",
        "/workflows?ordering=name&search={}",
        "/executions?workflow_id={}",
        "/tasks?workflow_id={}",
        "/schedules?workflow_id={}",
        "/webhooks?workflow_id={}",
        "/workflows?ordering=owner",
    ],
)
def test_a9_a_search_and_an_order_tell_nothing_of_what_is_foreign(world, path):
    client = world.clients[matrix.NO_ROLE]
    answers = [client.get(path.format(name)) for name in ("foreign", "nothing-of-this-name")]
    bodies = [
        {k: v for k, v in answer.json().items() if k != "request_id"} if answer.status_code != 200 else answer.json()
        for answer in answers
    ]
    assert answers[0].status_code == answers[1].status_code
    assert json.dumps(bodies[0]).replace("foreign", "?") == json.dumps(bodies[1]).replace("nothing-of-this-name", "?")


def test_a9_positive_control_the_owner_finds_his(world):
    mine = world.thing(matrix.NO_ROLE, "own").workflow.slug
    found = world.clients[matrix.NO_ROLE].get(f"/workflows?search={mine}").json()["results"]
    assert mine in [row["id"] for row in found]


def test_a9_in_a_bulk_report_each_id_is_checked(world):
    mine, foreign = world.thing(matrix.NO_ROLE, "own").tracker, world.thing("", "foreign").tracker
    reports = [{"workflow_id": name, "percent_complete": 7, "status": "in_progress"} for name in (mine, foreign)]
    client = world.clients[matrix.NO_ROLE]
    answer = client.post("/progress/update", json.dumps(reports), "application/json")
    assert answer.status_code in (403, 404, 409), answer.content
    assert not Execution.objects.filter(workflow__slug__in=(mine, foreign)).exists()  # all of it or nothing
    alone = client.post("/progress/update", json.dumps(reports[:1]), "application/json")
    assert alone.status_code == 200, alone.content
    assert Execution.objects.filter(workflow__slug=mine).exists()


def test_a12_a_credential_for_tasks_reaches_no_account_no_role_no_admin(world):
    owner = User.objects.get(pk=world.users["agent"].pk)
    scope = ["task:read", "task:execute", "progress:update"]
    _, raw = api_tokens.create(by=owner, name="agent", wanted=scope, expires_in_days=1)
    client = Client(raise_request_exception=False, headers={"Authorization": f"Bearer {raw}"})
    thing, let_in = world.thing("", "foreign"), set()
    for route, rule in matrix.ROUTES.items():
        if route.startswith("WS ") or rule.kind == "open":
            continue
        with transaction.atomic():
            answer = worlds.ask(client, route, thing)
            transaction.set_rollback(True)
        if answer.status_code < 300:
            let_in.add(route)
    refused = ("/users", "/roles", "/audit", "/queues", "/workers", "/notifications", "/auth/api-tokens")
    assert not [route for route in let_in if route.partition(" ")[2].startswith(refused)]
    assert not {route for route in let_in if route.startswith(("DELETE", "PUT"))}
    assert {"GET /tasks", "GET /tasks/{id}"} <= let_in  # the positive control
    for path in ("/admin/", "/admin/accounts/user/", "/admin/accounts/role/"):
        assert client.get(path).status_code == 302  # a token is no session
