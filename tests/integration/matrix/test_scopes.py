"""A12: what a scoped credential reaches: of every permission a token that lacks it, and one that has no other."""

import pytest
from django.core.cache import cache
from django.db import transaction
from django.test import Client

from apps.accounts import api_tokens
from apps.accounts.models import User
from apps.accounts.permissions import OF_WORKFLOWS, Permission
from orchestration import matrix
from tests.integration.matrix import world as worlds

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(settings):
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": False})
    cache.clear()
    yield worlds.build()
    cache.clear()


def bearer(world, *permissions, workflows=()):
    """A client with a token of the admin's: whatever keeps it out is its scope."""
    owner = User.objects.get(pk=world.users["admin"].pk)
    _, raw = api_tokens.create(by=owner, name="agent", wanted=permissions, expires_in_days=1, workflows=workflows)
    return Client(headers={"Authorization": f"Bearer {raw}"})


def asked(client, route, thing):
    with transaction.atomic():
        answer = worlds.ask(client, route, thing)
        transaction.set_rollback(True)
    return answer


def may_not(route, rule):
    """The answers to an admin's token that has everything but what this route asks for."""
    return ("404",) if rule.kind == "object" and rule.sees == rule.permission else ("403",)


def test_a12_a_credential_reaches_what_its_scope_names_and_nothing_else(world):
    """At each route: all permissions but the one that it asks for are of no use, and that one alone is enough."""
    thing, wrong, count = world.thing("", "foreign"), [], 0
    clients = {code: (bearer(world, *(set(Permission) - {code})), bearer(world, code)) for code in Permission}
    for route, rule in matrix.ROUTES.items():
        if not rule.permission or rule.kind == "lists" or route.startswith("WS ") or "/secrets/" in route:
            continue  # what may be listed and which secrets are told is asked below, by their rows
        without, alone = (asked(client, route, thing) for client in clients[rule.permission])
        count += 1
        if worlds.seen(without) not in may_not(route, rule):
            wrong.append(f"{route} without {rule.permission}: {without.status_code} was answered")
        person = worlds.seen(alone) == "403" and alone.json()["code"] == "person_required"
        sufficient = rule.kind in ("role", "named", "shares") or rule.sees == rule.permission
        if sufficient and worlds.seen(alone) != "yes" and not person:
            wrong.append(f"{route} with {rule.permission}: {alone.status_code} was answered")
    print(f"A12: {count} routes, each with a token that lacks its permission and one that has no other")
    assert not wrong, "\n".join(wrong)
    assert count > 90


@pytest.mark.parametrize("path", ["/workflows", "/executions", "/tasks", "/schedules", "/webhooks"])
def test_a12_a_list_shows_nothing_to_a_credential_that_may_not_read_it(world, path):
    code = Permission.TASK_READ if path == "/tasks" else Permission.WORKFLOW_READ
    assert bearer(world, code).get(path).json()["results"]
    assert bearer(world, *(set(Permission) - {code})).get(path).json()["results"] == []


def test_a12_no_secret_is_told_to_a_credential_that_may_save_nothing(world):
    name = world.thing("", "foreign").secret.name
    fewer = bearer(world, *(set(Permission) - {Permission.WORKFLOW_CREATE, Permission.SYSTEM_ADMIN}))
    assert fewer.get("/secrets").json()["results"] == []
    assert fewer.get(f"/secrets/{name}").status_code == 404
    assert bearer(world, Permission.SYSTEM_ADMIN).get(f"/secrets/{name}").status_code == 200


@pytest.mark.parametrize("path", ["/admin/", "/admin/accounts/user/", "/admin/accounts/role/", "/ui/account"])
def test_a12_a_credential_is_no_session(world, path):
    assert bearer(world, *Permission).get(path).status_code in (302, 401, 403)


def test_a12_a_credential_of_one_workflow_reaches_it_and_no_other(world):
    """All that can be had on single workflows, of an account that may everything, and still only there."""
    here, there, wrong = world.thing("admin", "own"), world.thing("", "foreign"), []
    client = bearer(world, *OF_WORKFLOWS, workflows=[here.workflow.slug, here.tracker])
    let_in = 0
    for route, rule in matrix.ROUTES.items():
        if rule.kind != "object" or route.startswith("WS ") or rule.permission not in OF_WORKFLOWS:
            continue
        inside, outside = (worlds.seen(asked(client, route, thing)) for thing in (here, there))
        let_in += inside == "yes"
        if (inside, outside) != ("yes", "404"):
            wrong.append(f"{route}: {inside} at its own, {outside} at another")
    assert not wrong, "\n".join(wrong)
    assert let_in > 35
