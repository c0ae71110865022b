"""`Idempotency-Key`: one effect for one key, on whatever changes something."""

import threading

import pytest
from django.db import connection
from django.urls import get_resolver
from guardian.shortcuts import assign_perm, remove_perm
from rest_framework.test import APIClient

from apps.accounts import api_tokens
from apps.workflows.api.idempotency import Idempotent
from apps.workflows.models import Event, Execution, IdempotencyKey, Workflow, WorkflowVersion
from apps.workflows.services import executions, workflows
from apps.workflows.services.requests import once
from tests.integration.conftest import noop

pytestmark = pytest.mark.django_db

DEFINITION = {"name": "Daily report", "steps": [noop("a")]}
OTHER = {"name": "Daily report", "steps": [noop("b")]}


@pytest.fixture
def api(as_user):
    return as_user("admin")


def call(client, method, path, body=None, key="k", **values):
    headers = {"Idempotency-Key": key} if key is not None else {}
    return getattr(client, method)(path, body, format="json", headers=headers, **values)


def body(answer):
    return answer.json() if answer.content else None


def twice(client, method, path, sent=None, key="k"):
    """The answers to a request and to the same again: equal, and the second says that it is one."""
    first, second = (call(client, method, path, sent, key) for _ in range(2))
    assert first.status_code < 300, first.content
    assert (first.status_code, body(first)) == (second.status_code, body(second))
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    return body(first)


def test_a_workflow_is_created_changed_executed_cancelled_and_deleted_once(api):
    twice(api, "post", "/workflows", DEFINITION, "create")
    twice(api, "put", "/workflows/daily-report", OTHER, "change")
    assert WorkflowVersion.objects.count() == 2
    execution = twice(api, "post", "/workflows/daily-report/execute", {}, "execute")["execution_id"]
    assert Execution.objects.count() == 1
    twice(api, "post", f"/executions/{execution}/cancel", None, "cancel")
    assert Event.objects.filter(execution=execution, type="execution.cancel_requested").count() == 1
    twice(api, "delete", "/workflows/daily-report", None, "delete")
    assert not Workflow.objects.exists()


def test_a12_a_token_is_told_nothing_that_was_told_to_its_owner(api, make_user):
    owner = api.user
    call(api, "post", "/workflows", DEFINITION, "create")
    told = twice(api, "post", "/webhooks", {"workflow_id": "daily-report", "name": "in"}, "hook")
    _, raw = api_tokens.create(by=owner, name="t", wanted=["workflow:read"], expires_in_days=1)
    token = APIClient(raise_request_exception=False, headers={"Authorization": f"Bearer {raw}"})
    answer = call(token, "post", "/webhooks", {"workflow_id": "daily-report", "name": "in"}, "hook")
    assert answer.status_code == 403
    assert told["secret"] not in answer.content.decode()
    assert call(token, "post", "/workflows/daily-report/execute", {}, "execute").status_code == 403
    _, raw = api_tokens.create(by=owner, name="u", wanted=["workflow:read", "workflow:execute"], expires_in_days=1)
    other = APIClient(headers={"Authorization": f"Bearer {raw}"})
    twice(other, "post", "/workflows/daily-report/execute", {}, "execute")
    assert Execution.objects.count() == 1


def test_a4_nothing_is_repeated_to_who_may_no_longer_see_it(api, as_user, make_workflow):
    workflow = make_workflow([noop("a")], name="Shared")
    reader = as_user()
    for code in ("workflow:read", "workflow:execute"):
        assign_perm(code, reader.user, workflow)
    path = f"/workflows/{workflow.slug}/execute"
    twice(reader, "post", path, {}, "go")
    for code in ("workflow:read", "workflow:execute"):
        remove_perm(code, reader.user, workflow)
    assert call(reader, "post", path, {}, "go").status_code == 404
    assert Execution.objects.count() == 1


def test_progress_is_reported_once(api):
    report = {"workflow_id": "train", "status": "in_progress", "percent_complete": 10}
    told = twice(api, "post", "/progress/update", report)
    assert Event.objects.filter(execution=told["execution_id"]).count() == told["seq"]
    twice(api, "post", "/progress/update", [report, {**report, "percent_complete": 20}], "many")


def test_a_key_is_remembered_over_what_came_between(api):
    call(api, "post", "/workflows", DEFINITION, "first")
    call(api, "put", "/workflows/daily-report", OTHER, "second")
    again = call(api, "post", "/workflows", DEFINITION, "first")
    assert (again.status_code, again.json()["version"]) == (201, 1)


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("post", "/workflows", {**DEFINITION, "name": "Another"}),
        ("put", "/workflows/daily-report", DEFINITION),
        ("post", "/workflows/validate", DEFINITION),
        ("post", "/workflows?dry=1", DEFINITION),
        ("delete", "/workflows/daily-report", None),
    ],
)
def test_the_same_key_with_another_request_is_422(api, method, path, sent):
    call(api, "post", "/workflows", DEFINITION)
    answer = call(api, method, path, sent)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert [w.slug for w in Workflow.objects.all()] == ["daily-report"]
    assert WorkflowVersion.objects.count() == 1


def test_the_order_of_members_does_not_make_another_request(api):
    call(api, "post", "/workflows", DEFINITION)
    turned = dict(reversed(DEFINITION.items()))
    assert call(api, "post", "/workflows", turned).headers["Idempotency-Replayed"] == "true"


def test_another_users_key_is_another_key(api, as_user):
    call(api, "post", "/workflows", DEFINITION)
    other = as_user("admin")
    assert call(other, "post", "/workflows", DEFINITION).json()["code"] == "id_taken"
    assert call(other, "post", "/workflows", {**DEFINITION, "name": "Mine"}).status_code == 201


def test_an_error_is_not_kept(api, monkeypatch):
    assert call(api, "post", "/workflows", {"name": "x"}).status_code == 400
    assert call(api, "delete", "/workflows/daily-report").status_code == 404
    assert not IdempotencyKey.objects.exists()
    assert call(api, "post", "/workflows", DEFINITION).status_code == 201
    broken = executions.start

    def start(*args, **values):
        broken(*args, **values)
        raise RuntimeError("the process dies here")

    monkeypatch.setattr(executions, "start", start)
    assert call(api, "post", "/workflows/daily-report/execute", {}, "run").status_code == 500
    assert not Execution.objects.exists()
    monkeypatch.undo()
    assert call(api, "post", "/workflows/daily-report/execute", {}, "run").status_code == 202
    assert Execution.objects.count() == 1


def test_a_refused_caller_leaves_no_key(api, as_user):
    call(api, "post", "/workflows", DEFINITION)
    assert call(as_user("guest"), "delete", "/workflows/daily-report").status_code == 403
    assert call(as_user(None), "post", "/workflows", DEFINITION).status_code == 403
    assert IdempotencyKey.objects.count() == 1


@pytest.mark.parametrize("key", ["", "x" * 201, "schlüssel", "tab\there"])
def test_a_key_that_is_none_is_a_400(api, key):
    answer = call(api, "post", "/workflows", DEFINITION, key)
    assert answer.status_code == 400
    assert not Workflow.objects.exists()


def test_reading_takes_no_key(api):
    call(api, "post", "/workflows", DEFINITION)
    for _ in range(2):
        answer = call(api, "get", "/workflows/daily-report", None, "read")
        assert "Idempotency-Replayed" not in answer.headers
    assert IdempotencyKey.objects.count() == 1


def test_a_body_that_cannot_be_read_is_a_400_with_a_key_too(api):
    answer = api.post("/workflows", "{", content_type="application/json", headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    answer = api.post("/workflows", "\x00", content_type="application/zip", headers={"Idempotency-Key": "k"})
    assert answer.status_code == 415


@pytest.mark.django_db(transaction=True)
def test_requests_with_one_key_at_the_same_time_have_one_effect(api):
    workflows.create(DEFINITION, by=api.user)
    begin, answers = threading.Barrier(4), []

    def ask():
        try:
            client = type(api)(raise_request_exception=False)
            client.force_authenticate(api.user)
            begin.wait(60)
            answers.append(call(client, "post", "/workflows/daily-report/execute", {}))
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [answer.status_code for answer in answers] == [202] * 4
    assert len({answer.json()["execution_id"] for answer in answers}) == 1
    assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 3
    assert Execution.objects.count() == 1


def test_a_key_that_is_pruned_between_the_two_looks_is_carried_out_anew(api, monkeypatch):
    once(api.user, "k", "d", lambda: 1)
    asked = IdempotencyKey.objects.filter

    def pruned_first(**values):
        IdempotencyKey.objects.all().delete()
        monkeypatch.undo()
        return asked(**values)

    monkeypatch.setattr(IdempotencyKey.objects, "filter", pruned_first)
    assert once(api.user, "k", "d", lambda: 2) == 2


def _views():
    for entry in get_resolver().url_patterns:
        stack = [entry]
        while stack:
            one = stack.pop()
            stack += getattr(one, "url_patterns", [])
            view = getattr(one, "callback", None)
            cls = getattr(view, "cls", None) or getattr(view, "view_class", None)
            if cls is not None and cls.__module__.startswith(("apps.workflows.", "apps.progress.")):
                yield view, cls


# A ticket opens one socket within 30 seconds: repeated, it would be spent; asked for again, there is a new one.
WITHOUT = {"TicketView"}


def test_every_changing_route_takes_a_key():
    without = set()
    for view, cls in _views():
        methods = getattr(view, "actions", None) or [m for m in ("post", "put", "patch", "delete") if hasattr(cls, m)]
        if {"post", "put", "patch", "delete"} & set(methods) and not issubclass(cls, Idempotent):
            without.add(cls.__name__)
    assert without == WITHOUT


def test_the_document_of_the_api_shows_the_header(api):
    document = api.get("/schema?format=json").json()
    for path, method in (
        ("/workflows", "post"),
        ("/workflows/{id}", "put"),
        ("/workflows/{id}", "delete"),
        ("/executions/{id}/cancel", "post"),
        ("/progress/update", "post"),
    ):
        names = {one["name"] for one in document["paths"][path][method].get("parameters", [])}
        assert "Idempotency-Key" in names, f"{method} {path}"
    read = document["paths"]["/workflows"]["get"]["parameters"]
    assert "Idempotency-Key" not in {one["name"] for one in read}


def test_what_is_kept_tells_nobody_a_secret(api):
    workflows.create(DEFINITION, by=api.user)
    told = twice(api, "post", "/webhooks", {"workflow_id": "daily-report", "name": "door"})
    assert told["secret"] not in str(IdempotencyKey.objects.values_list("answer", flat=True).get())
