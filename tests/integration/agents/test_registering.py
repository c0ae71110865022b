"""Registering, changing and sharing agents: who may, and what others are told."""

import pytest
from django.test import Client

from apps.accounts import api_tokens
from apps.accounts.audit.models import AuditEntry
from apps.accounts.models import ApiToken, Role
from apps.accounts.models import Permission as PermissionRow
from apps.accounts.permissions import Permission
from apps.agents import services
from apps.agents.models import Agent
from apps.workflows.models import Workflow
from apps.workflows.services.ledger import lanes

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(make_user, client_of):
    return client_of(make_user("admin"))


NEW = {"name": "reviewer-1", "labels": {"kind": "reviewer", "gpu": 1, "ssd": True}, "slots": 3}


def test_its_life(admin):
    made = admin.post("/agents", NEW, format="json")
    assert made.status_code == 201, made.data
    assert made.data["token"].startswith("aoa_")
    assert {name: made.data[name] for name in NEW} == NEW
    path = f"/agents/{made.data['id']}"
    assert [one["name"] for one in admin.get("/agents?search=VIEW").data["results"]] == ["reviewer-1"]
    assert admin.get("/agents?disabled=true").data["results"] == []
    changed = admin.patch(path, {"slots": 5, "disabled": True}, format="json")
    assert (changed.data["slots"], changed.data["disabled"], changed.data["labels"]) == (5, True, NEW["labels"])
    rotated = admin.post(f"{path}/rotate")
    assert rotated.data["token"] != made.data["token"]
    assert admin.delete(path).status_code == 204
    assert admin.get(path).status_code == 404
    told = list(AuditEntry.objects.order_by("seq").values_list("action", "object_name"))
    assert ("agent.create", "reviewer-1") in told
    assert {"agent.update", "agent.rotate", "agent.delete"} <= {action for action, _ in told}
    assert "aoa_" not in str(list(AuditEntry.objects.values()))


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"name": "no spaces"}, "/name"), ({"name": ""}, "/name"), ({"name": "x" * 81}, "/name"),
        ({"slots": 0}, "/slots"), ({"slots": 1001}, "/slots"), ({"labels": []}, "/labels"),
        ({"labels": {"1x": 1}}, "/labels"), ({"labels": {"a >= 1": 1}}, "/labels"),
        ({"labels": {"a": None}}, "/labels"), ({"labels": {"a": {}}}, "/labels"),
        ({"labels": {"a": "x" * 201}}, "/labels"),
        ({"labels": {f"l{number}": 1 for number in range(101)}}, "/labels"), ({"owner": "me"}, "/owner"),
        ({"token": "mine"}, "/token"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_by_field(admin, wrong, pointer):
    answer = admin.post("/agents", {**NEW, **wrong}, format="json")
    assert answer.status_code == 400
    assert pointer in [one["pointer"] for one in answer.data["errors"]]
    assert not Agent.objects.exists()


def test_a_name_is_taken_once_and_there_are_so_many(admin, monkeypatch):
    from apps.agents import services

    assert admin.post("/agents", NEW, format="json").status_code == 201
    assert admin.post("/agents", NEW, format="json").data["code"] == "name_taken"
    monkeypatch.setattr(services, "MOST_AGENTS", 1)
    assert admin.post("/agents", {"name": "another"}, format="json").data["code"] == "too_many_agents"


def test_a_name_never_changes(admin, agent):
    answer = admin.patch(f"/agents/{agent.agent.pk}", {"name": "x"}, format="json")
    assert answer.status_code == 400


def test_sharing_and_what_decided(make_agent, make_user, client_of):
    boss, friend = make_user(), make_user()
    agent = make_agent(by=boss)
    path, mine, theirs = f"/agents/{agent.agent.pk}", client_of(boss), client_of(friend)
    assert theirs.get(path).status_code == 404
    assert theirs.get("/agents").data["results"] == []
    asked = f"/auth/explain?permission=agent:update&object={agent.agent.pk}"
    assert theirs.get(asked).status_code == 404
    given = mine.put(f"{path}/grants", {"user": friend.username, "permissions": ["read"]}, format="json")
    assert given.data["permissions"] == ["read"]
    assert theirs.get(path).status_code == 200
    assert theirs.patch(path, {"slots": 2}, format="json").status_code == 403
    assert theirs.get(f"{path}/grants").status_code == 403
    assert theirs.get(asked).data["allowed"] is False
    mine.put(f"{path}/grants", {"user": friend.username, "permissions": ["read", "update"]}, format="json")
    assert theirs.patch(path, {"slots": 2}, format="json").status_code == 200
    explained = theirs.get(asked).data
    assert (explained["allowed"], explained["object"]) == (True, str(agent.agent.pk))
    assert explained["given_by"] == [{"kind": "grant", "name": friend.username}]
    assert mine.get(asked).data["given_by"] == [{"kind": "ownership", "name": boss.username}]
    assert (
        mine.put(f"{path}/grants", {"user": friend.username, "permissions": ["create"]}, format="json").status_code
        == 400
    )
    assert mine.delete(f"{path}/grants?user={friend.username}").status_code == 204
    assert theirs.get(path).status_code == 404
    role = Role.objects.create(name="reviewers")
    make_user().roles.add(role)
    friend.roles.add(role)
    mine.put(f"{path}/grants", {"role": "reviewers", "permissions": ["read"]}, format="json")
    fresh = client_of(type(friend).objects.get(pk=friend.pk))
    assert fresh.get(path).status_code == 200
    assert fresh.get(asked.replace("update", "read")).data["given_by"] == [{"kind": "role_grant", "name": "reviewers"}]
    grants = AuditEntry.objects.filter(action="grant.granted", object_type="agent")
    assert {entry.object_id for entry in grants} == {str(agent.agent.pk)}
    assert mine.get("/auth/explain?permission=agent:read&object=no-uuid").status_code == 404
    assert mine.get(f"/auth/explain?permission=system:read&object={agent.agent.pk}").status_code == 400


def test_a_token_of_single_workflows_reaches_no_agent(agent, make_user):
    token, raw = api_tokens.create(
        by=make_user("admin"), name="wide", wanted=[Permission.AGENT_READ], expires_in_days=1
    )
    client = Client(headers={"Authorization": f"Bearer {raw}"})
    assert client.get(f"/agents/{agent.agent.pk}").status_code == 200
    ApiToken.objects.filter(pk=token.pk).update(workflows=["a-workflow"])  # such a one cannot be made
    assert client.get(f"/agents/{agent.agent.pk}").status_code == 404
    assert client.get("/agents").json()["results"] == []


def test_nobody_grants_what_he_lacks(make_agent, make_user, client_of):
    agent = make_agent(by=make_user())
    guardian = make_user()
    guardian.roles.add(Role.objects.create(name="accounts-only"))
    Role.objects.get(name="accounts-only").permissions.add(PermissionRow.objects.get(code="system:admin"))
    keeper = client_of(type(guardian).objects.get(pk=guardian.pk))
    given = keeper.put(
        f"/agents/{agent.agent.pk}/grants", {"user": guardian.username, "permissions": ["update"]}, format="json"
    )
    assert given.status_code == 403


def test_a_task_for_agents_needs_the_right_to_direct_one(make_user, client_of):
    body = {"agent": {"with": {"a": 1}}}
    maker = make_user()
    role = Role.objects.create(name="makers")
    role.permissions.add(PermissionRow.objects.get(code="task:create"))
    maker.roles.add(role)
    assert client_of(maker).post("/tasks", body, format="json").status_code == 403
    assert client_of(maker).post("/tasks", {"python": "builtin.noop"}, format="json").status_code == 202
    role.permissions.add(PermissionRow.objects.get(code="agent:execute"))
    fresh = client_of(type(maker).objects.get(pk=maker.pk))
    assert fresh.post("/tasks", body, format="json").status_code == 202


def test_whoever_was_granted_it_on_an_agent_directs_tasks_to_that_one(make_agent, make_user, client_of):
    boss, friend = make_user(), make_user()
    maker = Role.objects.create(name="makers")
    maker.permissions.add(PermissionRow.objects.get(code="task:create"))
    for user in (boss, friend):
        user.roles.add(maker)
    one, other = make_agent(by=boss, labels={"kind": "writer"}), make_agent(by=make_user(), labels={"kind": "reviewer"})
    writer = {"agent": {"requires": ["kind == writer"]}}
    body = {"user": friend.username, "permissions": ["execute"]}

    def asked(user, step):
        return client_of(type(user).objects.get(pk=user.pk)).post("/tasks", step, format="json").status_code

    assert asked(boss, writer) == 202  # it is his own
    assert asked(friend, writer) == 403
    assert client_of(boss).put(f"/agents/{one.agent.pk}/grants", body, format="json").data["permissions"] == ["execute"]
    lanes.forget()
    assert asked(friend, writer) == 202
    assert len(one.claim()) == 1
    explained = client_of(boss).get(f"/auth/explain?permission=agent:execute&object={one.agent.pk}").data
    assert explained["given_by"] == [{"kind": "ownership", "name": boss.username}]
    # Not where somebody else's could take it, or where nobody's can yet; a broken one is told as such.
    assert [asked(friend, {"agent": {"requires": needs}}) for needs in ([], ["kind == reviewer"], ["gpu"])] == [403] * 3
    assert asked(friend, {"agent": {"requires": ["kind = writer"]}}) == 400
    services.change(other.agent, {"labels": {"kind": "writer"}})
    assert asked(friend, writer) == 403
    services.change(other.agent, {"disabled": True})
    assert asked(friend, writer) == 202
    assert not Workflow.objects.filter(owner=friend).exclude(kind=Workflow.Kind.TASKS).exists()
    client_of(boss).delete(f"/agents/{one.agent.pk}/grants?user={friend.username}")
    assert asked(friend, writer) == 403


def test_plan_and_why_say_what_is_missing(make_agent, make_workflow, make_user, client_of):
    from apps.workflows.models import Task
    from apps.workflows.services import executions

    admin = client_of(make_user("admin"))
    step = {"id": "review", "agent": {"requires": ["kind == reviewer"]}}
    workflow = make_workflow([step])
    lanes.forget()
    execution = executions.start(workflow, by=admin.user)
    task = Task.objects.get(execution=execution)

    def why():
        return [(one["code"], one["message"]) for one in admin.get(f"/tasks/{task.pk}/why").data["reasons"]]

    def missing():
        return [one["message"] for one in admin.get(f"/workflows/{workflow.slug}/plan").data["missing"]]

    assert "no agent is alive" in missing()[0]
    ((code, message),) = why()
    assert code == "no_performer"
    assert "no agent is live" in message
    make_agent(labels={"kind": "writer"}).claim()
    assert "in its registration" in missing()[0]
    ((code, message),) = why()
    assert code == "labels"
    assert "give an agent these labels" in message
    able = make_agent(labels={"kind": "reviewer"})
    able.beat()
    assert missing() == []
    assert [code for code, _ in why()] == ["ready"]
