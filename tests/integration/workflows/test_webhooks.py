"""Webhooks: a signed request starts a workflow once; everybody else learns nothing, not even which doors exist."""

import hashlib
import hmac
import json
import logging
import uuid
from datetime import timedelta

import pytest
from guardian.shortcuts import assign_perm
from rest_framework.test import APIClient

from apps.core.clock import database_now
from apps.core.signatures import new_secret, sign
from apps.workflows.models import Execution, Webhook
from apps.workflows.services import webhooks
from tests.integration.conftest import noop
from tests.integration.workflows.test_api import as_user  # noqa: F401 a fixture

pytestmark = pytest.mark.django_db

INPUTS = {"ref": {"type": "string"}, "count": {"type": "integer", "default": 1}}
TEMPLATES = {"ref": "branch ${inputs.payload.ref}", "count": "${inputs.payload.commits[0].n}"}
PAYLOAD = {"ref": "main", "commits": [{"n": 3}]}


@pytest.fixture
def api(as_user, owner):  # noqa: F811
    return as_user(owner)


@pytest.fixture
def workflow(make_workflow):
    return make_workflow([noop("a")], name="Deploy", inputs=INPUTS)


@pytest.fixture
def door(workflow, owner):
    """A webhook, and its secret beside it as `door.plain`."""
    made, secret = webhooks.create(workflow, name="push", inputs=TEMPLATES, by=owner)
    made.plain = secret
    return made


def create(client, **changes):
    return client.post("/webhooks", {"workflow_id": "deploy", "name": "push", "inputs": TEMPLATES, **changes}, "json")


def send(door, *, body=PAYLOAD, message_id="msg_1", at=None, secret=None, identity=None, headers=None):
    """A request as Standard Webhooks signs it."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    seconds = int((at or database_now()).timestamp())
    signature = sign(secret or door.plain, message_id=message_id, timestamp=seconds, body=content)
    given = {"webhook-id": message_id, "webhook-timestamp": str(seconds), "webhook-signature": signature}
    sent = {name: value for name, value in {**given, **(headers or {})}.items() if value is not None}
    return APIClient().post(f"/webhooks/{identity or door.pk}", content, content_type="application/json", headers=sent)


def from_github(door, *, body=PAYLOAD, delivery="72d3162e-cc78-11e3-81ab-4c9367dc0958", secret=None):
    content = json.dumps(body).encode()
    digest = hmac.new((secret or door.plain).encode(), content, hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Delivery": delivery, "X-GitHub-Event": "push"}
    return APIClient().post(f"/webhooks/{door.pk}", content, content_type="application/json", headers=headers)


def told(answer):
    """All that a caller can compare: status, headers and body, without what differs between any two answers."""
    body = answer.json()
    body.pop("request_id")
    own = ("X-Request-ID", "Date", "RateLimit-Remaining", "RateLimit-Reset")
    headers = {name: value for name, value in answer.headers.items() if name not in own}
    return answer.status_code, headers, body


def test_a_signed_request_starts_the_workflow_as_the_owner(door, owner):
    answer = send(door)
    assert answer.status_code == 202, answer.content
    execution = Execution.objects.get()
    assert answer.json() == {"execution_id": str(execution.pk), "workflow_id": "deploy", "status": "pending"}
    assert execution.inputs == {"ref": "branch main", "count": 3}
    assert (execution.trigger, execution.requested_by) == ("webhook", owner)
    door.refresh_from_db()
    assert door.last_at == execution.created_at


def test_github_is_understood(door):
    answer = from_github(door)
    assert answer.status_code == 202, answer.content
    assert from_github(door).json() == answer.json()
    assert from_github(door, delivery="another").json() != answer.json()
    assert Execution.objects.count() == 2


def test_the_same_message_again_starts_nothing_and_has_the_same_answer(door):
    first = send(door)
    again = send(door, at=database_now() - timedelta(seconds=7))
    assert (again.status_code, again.json()) == (202, first.json())
    assert send(door, body={**PAYLOAD, "ref": "other"}).json()["code"] == "idempotency_key_reused"
    assert Execution.objects.count() == 1


def test_message_ids_of_two_doors_are_two(door, workflow, owner):
    other, other.plain = webhooks.create(workflow, name="other", inputs=TEMPLATES, by=owner)
    assert send(door).json() != send(other).json()


def test_a_message_id_as_long_as_the_scheme_allows(door):
    assert send(door, message_id="m" * 256).status_code == 202
    assert send(door, message_id="m" * 257).status_code == 401


def test_one_of_several_signatures_is_enough(door):
    now = database_now()
    body = json.dumps(PAYLOAD).encode()
    right = sign(door.plain, message_id="msg_1", timestamp=int(now.timestamp()), body=body)
    wrong = sign(new_secret(), message_id="msg_1", timestamp=int(now.timestamp()), body=body)
    assert send(door, body=body, at=now, headers={"webhook-signature": f"{wrong} {right}"}).status_code == 202


REFUSALS = {
    "unknown id": lambda door: send(door, identity=uuid.uuid4()),
    "unknown id, unsigned": lambda door: APIClient().post(f"/webhooks/{uuid.uuid4()}", {}, "json"),
    "unsigned": lambda door: APIClient().post(f"/webhooks/{door.pk}", {}, "json"),
    "empty": lambda door: APIClient().post(f"/webhooks/{door.pk}"),
    "no JSON, unsigned": lambda door: APIClient().post(
        f"/webhooks/{door.pk}", b"\xff{", content_type="application/json"
    ),
    "another secret": lambda door: send(door, secret=new_secret()),
    "too old": lambda door: send(door, at=database_now() - timedelta(minutes=5, seconds=2)),
    "from the future": lambda door: send(door, at=database_now() + timedelta(minutes=6)),
    "no id": lambda door: send(door, headers={"webhook-id": None}),
    "another id": lambda door: send(door, headers={"webhook-id": "msg_2"}),
    "no timestamp": lambda door: send(door, headers={"webhook-timestamp": None}),
    "no number": lambda door: send(door, headers={"webhook-timestamp": "now"}),
    "not ASCII": lambda door: send(door, headers={"webhook-signature": "v1,\xe9"}),
    "GitHub, another secret": lambda door: from_github(door, secret=new_secret()),
    "GitHub, no id": lambda door: from_github(door, delivery=""),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_every_refusal_is_the_same(door, name):
    refused = told(REFUSALS[name](door))
    assert refused == told(send(door, identity=uuid.uuid4()))
    assert (refused[0], refused[2]["code"]) == (401, "invalid_signature")
    assert not Execution.objects.exists()


def refusal_is_uniform(door, caplog, reason):
    with caplog.at_level(logging.INFO, logger="apps.workflows.services.webhooks"):
        refused = told(send(door))
    assert refused == told(send(door, identity=uuid.uuid4()))
    assert reason in caplog.text
    assert not Execution.objects.exists()


def test_a_paused_door_refuses_as_if_it_were_not_there(door, caplog):
    webhooks.update(door, paused=True)
    refusal_is_uniform(door, caplog, "paused")
    webhooks.update(door, paused=False)
    assert send(door).status_code == 202


def test_the_door_of_a_disabled_account_refuses(door, owner, caplog):
    owner.is_active = False
    owner.save()
    refusal_is_uniform(door, caplog, "owner")


def test_the_door_of_an_account_that_may_no_longer_execute_refuses(door, make_user, caplog):
    Webhook.objects.update(owner=make_user("guest"))
    refusal_is_uniform(door, caplog, "owner")


def test_the_door_of_nobody_refuses(door, caplog):
    Webhook.objects.update(owner=None)
    refusal_is_uniform(door, caplog, "owner")


def test_a_secret_that_cannot_be_unsealed_refuses_and_is_told_in_the_log(door, caplog):
    Webhook.objects.update(secret="gAAAAA")
    refusal_is_uniform(door, caplog, "VAULT_KEYS")


def test_a_known_and_an_unknown_id_take_the_same_work(door, django_assert_num_queries, monkeypatch):
    unsealed = []
    real = webhooks.unseal
    monkeypatch.setattr(webhooks, "unseal", lambda text: unsealed.append(text) or real(text))
    for identity in (door.pk, uuid.uuid4()):
        with django_assert_num_queries(1 if not _asks_the_clock() else 2):
            assert send(door, identity=identity, secret=new_secret(), at=door.created_at).status_code == 401
    assert len(unsealed) == 2


def _asks_the_clock():
    from django.db import connection

    return connection.vendor != "sqlite"


def test_a_credential_has_no_say_at_the_open_door(door, owner):
    stale = APIClient().post(f"/webhooks/{door.pk}", {}, "json", headers={"Authorization": "Bearer stale"})
    assert stale.json()["code"] == "invalid_signature"
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(owner)
    assert client.post(f"/webhooks/{door.pk}", {}, "json").json()["code"] == "invalid_signature"


def test_a_body_may_have_a_mebibyte(door):
    assert send(door, body={**PAYLOAD, "rest": "x" * ((1 << 20) - 100)}).status_code == 202
    for identity in (door.pk, uuid.uuid4()):
        assert send(door, identity=identity, body={"rest": "x" * (1 << 20)}, message_id="m2").status_code == 413


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "parse_error"),
        (b"{", "parse_error"),
        (b"\xff", "parse_error"),
        (b"[" * 100_000, "too_deep"),
        (b'{"ref": "\\u0000"}', "invalid"),
        (b'{"ref": "\\ud800"}', "invalid"),
        (b'{"ref": 1e999}', "invalid"),
        (b"{}", "invalid_inputs"),
        (b"[]", "invalid_inputs"),
        (b"null", "invalid_inputs"),
        (b'{"ref": "main", "commits": [{"n": "three"}]}', "invalid_inputs"),
    ],
)
def test_a_signed_body_that_cannot_be_used_is_told(door, body, code):
    answer = send(door, body=body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert not Execution.objects.exists()


def test_the_template_without_a_value_is_named_and_the_message_may_come_again(door):
    answer = send(door, body={"ref": "main", "commits": []})
    assert [e["pointer"] for e in answer.json()["errors"]] == ["/inputs/count"]
    assert send(door).status_code == 202


def test_a_value_is_never_evaluated(door):
    assert send(door, body={**PAYLOAD, "ref": "${secrets.key} ${inputs.payload}"}).status_code == 202
    assert Execution.objects.get().inputs["ref"] == "branch ${secrets.key} ${inputs.payload}"


def test_a_door_is_made_and_its_secret_is_told_once(api, workflow):
    answer = create(api)
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert made["secret"].startswith("whsec_")
    assert (made["workflow_id"], made["name"], made["paused"]) == ("deploy", "push", False)
    assert made["url"].endswith(f"/webhooks/{made['id']}")
    row = Webhook.objects.get()
    assert made["secret"] not in row.secret
    row.plain = made["secret"]
    assert send(row).status_code == 202
    shown = [api.get(f"/webhooks/{row.pk}"), api.get("/webhooks"), api.put(f"/webhooks/{row.pk}", {}, "json")]
    for one in shown:
        assert one.status_code == 200
        assert "secret" not in one.json()
        assert row.plain not in one.content.decode()
        assert row.secret not in one.content.decode()


def test_after_a_rotation_the_old_secret_is_none(api, door):
    answer = api.post(f"/webhooks/{door.pk}/rotate")
    assert answer.status_code == 200
    assert answer.json()["secret"] != door.plain
    assert send(door).status_code == 401
    assert send(door, secret=answer.json()["secret"]).status_code == 202


def test_a_door_is_changed_paused_and_closed(api, door):
    changed = api.put(
        f"/webhooks/{door.pk}", {"name": "new", "inputs": {"ref": "fixed"}, "paused": True}, "json"
    ).json()
    assert (changed["name"], changed["inputs"], changed["paused"]) == ("new", {"ref": "fixed"}, True)
    assert api.put(f"/webhooks/{door.pk}", {"paused": False}, "json").json()["name"] == "new"
    assert send(door).status_code == 202
    assert Execution.objects.get().inputs == {"ref": "fixed", "count": 1}
    assert api.delete(f"/webhooks/{door.pk}").status_code == 204
    assert send(door, message_id="msg_2").status_code == 401
    assert api.get(f"/webhooks/{door.pk}").status_code == 404


@pytest.mark.parametrize(
    ("inputs", "pointer", "code"),
    [
        ({"ref": "${inputs.payload.ref"}, "/inputs/ref", "expression"),
        ({"ref": "${inputs.payload +}"}, "/inputs/ref", "expression"),
        ({"ref": "${inputs.ref}"}, "/inputs/ref", "not_available"),
        ({"ref": "${inputs}"}, "/inputs/ref", "not_available"),
        ({"ref": "${secrets.key}"}, "/inputs/ref", "not_available"),
        ({"ref": "${HOME:-x}"}, "/inputs/ref", "not_available"),
        ({"ref": ["${steps.a.outputs.x}"]}, "/inputs/ref/0", "not_available"),
        ({"ref": "${item}"}, "/inputs/ref", "not_available"),
        ({"ref": "x", "reff": "x"}, "/inputs/reff", "unknown_input"),
        ({"count": 1}, "/inputs/ref", "missing_input"),
        ({"ref": "x" * 70_000}, "/inputs", "too_long"),
        ({f"i{n}": 1 for n in range(201)}, "/inputs", "too_long"),
    ],
)
def test_templates_are_checked_when_they_are_saved(api, door, inputs, pointer, code):
    for answer in (
        create(api, name="other", inputs=inputs),
        api.put(f"/webhooks/{door.pk}", {"inputs": inputs}, "json"),
    ):
        assert answer.status_code == 400
        assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [(pointer, code)]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "x" * 101},
        {"name": None},
        {"name": "a\0b"},
        {"inputs": []},
        {"inputs": None},
        {"workflow_id": "nothing"},
        {"workflow_id": 7},
        {"secret": "whsec_mine"},
        {"owner": "somebody"},
    ],
)
def test_what_is_wrong_with_a_new_door_is_told_by_name(api, workflow, changes):
    answer = create(api, **changes)
    assert answer.status_code == 400
    assert all(error["pointer"].startswith("/") for error in answer.json()["errors"])
    assert not Webhook.objects.exists()


def test_a_name_is_taken_once_a_workflow(api, door, owner, workflow):
    assert create(api).json()["code"] == "name_taken"
    other, _ = webhooks.create(workflow, name="other", inputs=TEMPLATES, by=owner)
    assert api.put(f"/webhooks/{other.pk}", {"name": "push"}, "json").json()["code"] == "name_taken"


def test_a_tracker_has_no_doors(as_user):  # noqa: F811
    admin = as_user("admin")
    assert admin.post("/progress/update", {"workflow_id": "t", "percent_complete": 1, "status": "in_progress"}, "json")
    assert create(admin, workflow_id="t", inputs={}).json()["code"] == "not_executed"


def test_nobody_without_credentials_gets_past_the_owners_methods(door):
    client = APIClient()
    for answer in (
        client.get("/webhooks"),
        client.post("/webhooks", {}, "json"),
        client.get(f"/webhooks/{door.pk}"),
        client.put(f"/webhooks/{door.pk}", {}, "json"),
        client.delete(f"/webhooks/{door.pk}"),
        client.post(f"/webhooks/{door.pk}/rotate"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


@pytest.mark.parametrize(
    ("role", "read", "write"),
    [("user", 200, 403), ("guest", 200, 403), ("system", 200, 200), ("admin", 200, 200), (None, 404, 404)],
)
def test_who_may_read_and_who_may_write(as_user, door, role, read, write):  # noqa: F811
    client = as_user(role)
    assert client.get(f"/webhooks/{door.pk}").status_code == read
    assert client.put(f"/webhooks/{door.pk}", {"paused": False}, "json").status_code == write
    assert client.post(f"/webhooks/{door.pk}/rotate").status_code == write
    assert client.delete(f"/webhooks/{door.pk}").status_code == (204 if write == 200 else write)


def test_a_grant_on_the_workflow_opens_a_door_of_ones_own(as_user, workflow):  # noqa: F811
    client = as_user(None)
    assert create(client).status_code == 400  # it may not even know of the workflow
    assign_perm("workflow:read", client.user, workflow)
    assert create(client).status_code == 403
    assign_perm("workflow:execute", client.user, workflow)
    made = create(client)
    assert made.status_code == 201
    row = Webhook.objects.get()
    row.plain = made.json()["secret"]
    assert send(row).status_code == 202
    assert Execution.objects.get().requested_by == client.user


def test_an_owner_who_may_no_longer_execute_may_no_longer_change_his_door(as_user, door, owner):  # noqa: F811
    guest = as_user("guest")
    Webhook.objects.update(owner=guest.user)
    assert guest.put(f"/webhooks/{door.pk}", {"paused": True}, "json").status_code == 403


def test_a_list_holds_what_the_caller_may_read(as_user, api, door):  # noqa: F811
    assert [one["id"] for one in api.get("/webhooks").json()["results"]] == [str(door.pk)]
    assert as_user(None).get("/webhooks").json()["results"] == []
