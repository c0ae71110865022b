"""A12: the credential of an agent reaches the protocol for its own leases, and nothing else."""

import json

import pytest
from django.core.cache import cache
from django.db import transaction
from django.test import Client

from apps.accounts.models import ApiToken, User
from apps.agents import services
from apps.workflows.models import Task
from orchestration import matrix
from tests.integration.agents.conftest import review
from tests.integration.matrix import world as worlds

pytestmark = pytest.mark.django_db

ITS_OWN = {route for route, rule in matrix.ROUTES.items() if rule.kind == "agent"}
BODIES = {
    "claim": {"wait_seconds": 0}, "heartbeat": {"tasks": []}, "progress": {"attempt": 1, "percent_complete": 1},
    "complete": {"attempt": 1}, "fail": {"attempt": 1, "error": "x"},
    "logs": {"attempt": 1, "lines": [{"number": 1, "text": "x"}]}, "artifacts": {},
}  # fmt: skip


def asked(client, route, agent, task):
    """The answer to a request of the protocol, about this agent and this task."""
    path = route.partition(" ")[2].replace("{id}", str(agent)).replace("{task_id}", str(task))
    what = path.rpartition("/")[2]
    query = "?attempt=1&name=a" if what == "artifacts" else ""
    return client.post(path + query, json.dumps(BODIES[what]), "application/json")


def test_a12_it_reaches_the_protocol_of_its_own_leases_and_nothing_else(agent, make_agent, started, settings):
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": False})
    world, other = worlds.build(), make_agent(by=User.objects.create(username="another"))
    started(review(), review("second"))
    (mine,), (foreign,) = agent.claim(), other.claim()
    refused, wrong = 0, []
    for route, rule in matrix.ROUTES.items():
        if route.startswith("WS ") or rule.kind in ("open", "signed", "agent"):
            continue
        for thing in (world.thing("", "foreign"), world.thing("admin", "own")):
            with transaction.atomic():
                answer = worlds.ask(agent.client, route, thing)
                transaction.set_rollback(True)
            refused += 1
            to_login = answer.status_code == 302 and answer["Location"].startswith("/ui/login")
            if answer.status_code != 401 and not to_login:
                wrong.append(f"{route}: {answer.status_code}")
    before = list(Task.objects.order_by("pk").values())
    for route in ITS_OWN:
        found = asked(agent.client, route, other.agent.pk, foreign["task_id"]).status_code
        wrong += [] if found == 404 else [f"{route} of another agent: {found}"]
        if "{task_id}" in route:
            found = asked(agent.client, route, agent.agent.pk, foreign["task_id"]).status_code
            wrong += [] if found == 404 else [f"{route} of another's task: {found}"]
    assert list(Task.objects.order_by("pk").values()) == before
    # The positive control: what it may, it can.
    for route in sorted(ITS_OWN, key=lambda one: one.endswith(("complete", "fail"))):
        found = asked(agent.client, route, agent.agent.pk, mine["task_id"]).status_code
        wrong += [] if found in (200, 201, 204) else [f"{route} of its own: {found}"]
    assert not wrong, "\n".join(wrong)
    print(f"A12: {refused} requests of {len(matrix.ROUTES)} routes refused, {len(ITS_OWN)} open to itself alone")
    assert refused > 200


@pytest.mark.parametrize("path", ["/admin/", "/admin/agents/agent/", "/ui/", "/ui/account"])
def test_a12_it_is_no_session(agent, path):
    answer = agent.client.get(path)
    assert answer.status_code in (302, 401)
    assert not answer.has_header("Set-Cookie") or "sessionid" not in answer["Set-Cookie"]


@pytest.mark.parametrize("role", ["admin", "agent", None])
def test_no_account_gets_into_the_protocol(agent, make_user, role):
    from apps.accounts import api_tokens, tokens

    user = make_user(role)
    token = tokens.issue(user).access_token
    scope = ["task:execute"] if role else []
    for credential in (token, api_tokens.create(by=user, name="x", wanted=scope, expires_in_days=1)[1]):
        client = Client(raise_request_exception=True, headers={"Authorization": f"Bearer {credential}"})
        for route in ITS_OWN:
            assert asked(client, route, agent.agent.pk, agent.agent.pk).status_code == 403, route


@pytest.mark.parametrize("end", ["disable", "rotate", "remove", "owner disabled", "owner deleted", "token deleted"])
def test_a4_its_access_ends_with_the_next_request(make_agent, make_user, started, end):
    boss = make_user("admin")
    agent = make_agent(by=boss)
    started()
    (task,) = agent.claim()
    match end:
        case "disable":
            services.change(agent.agent, {"disabled": True})
        case "rotate":
            services.rotate(agent.agent, by=boss)
        case "remove":
            services.remove(agent.agent)
        case "owner disabled":
            User.objects.filter(pk=boss.pk).update(is_active=False)
        case "owner deleted":
            boss.delete()
        case "token deleted":
            ApiToken.objects.filter(agent=agent.agent).delete()
    for path, body in (("claim", {"wait_seconds": 0}), ("heartbeat", {"tasks": []})):
        assert agent.post(path, body).status_code == 401
    assert agent.about(task, "complete").status_code == 401
    held = Task.objects.filter(pk=task["task_id"], lease_owner=agent.performer).exists()
    assert held == (end not in ("disable", "remove"))  # these know at once that nobody goes on


def test_a_rotated_credential_goes_on_with_what_the_old_one_claimed(agent, started, make_user):
    started()
    (task,) = agent.claim()
    _, raw = services.rotate(agent.agent, by=make_user("admin"))
    agent.client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {raw}"
    client = Client(raise_request_exception=True, headers={"Authorization": f"Bearer {raw}"})
    answer = client.post(
        f"/agents/{agent.agent.pk}/tasks/{task['task_id']}/complete", json.dumps({"attempt": 1}), "application/json"
    )
    assert answer.json() == {"recorded": True}


def test_each_agent_has_an_allowance_of_its_own(make_agent, settings):
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": True, "RATE_LIMIT_TOKEN": "3/m"})
    cache.clear()
    one, other = make_agent(), make_agent()
    said = [one.post("heartbeat", {"tasks": []}) for _ in range(4)]
    assert [answer.status_code for answer in said] == [200, 200, 200, 429]
    assert int(said[-1]["Retry-After"]) > 0
    assert other.post("heartbeat", {"tasks": []}).status_code == 200
    cache.clear()


def test_it_is_kept_as_a_digest_and_listed_nowhere_as_an_api_token(agent, make_user):
    from apps.accounts import tokens

    row = ApiToken.objects.get(agent=agent.agent)
    assert agent.token not in str(vars(row))
    assert (row.audience, row.permissions) == ("agent", [])
    owner = User.objects.get(pk=row.owner_id)
    client = Client(headers={"Authorization": f"Bearer {tokens.issue(owner).access_token}"})
    assert client.get("/auth/api-tokens").json()["results"] == []
    shown = client.get(f"/agents/{agent.agent.pk}").json()
    assert "token" not in shown
    assert shown["token_expires_at"] is not None
