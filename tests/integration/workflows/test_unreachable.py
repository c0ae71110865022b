"""A37, A39: a database that is away or full is a 503 or 507 with Retry-After, and says nothing of itself."""

import pytest
from django.db import InterfaceError, OperationalError

from apps.workflows.models import Execution
from apps.workflows.services import executions
from tests.integration.conftest import noop

pytestmark = pytest.mark.django_db

AWAY = OperationalError('connection to server at "10.0.0.1", port 5432 failed: FATAL: the database is shutting down')
FULL = OperationalError("database or disk is full")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (AWAY, 503, "database_unavailable"),
        (InterfaceError("connection already closed"), 503, "database_unavailable"),
        (FULL, 507, "storage_full"),
    ],
)
def test_a39_a_full_or_absent_database_is_told_as_such(
    make_workflow, owner, client_of, monkeypatch, error, status, code
):
    make_workflow([noop("a")], name="Report")
    client = client_of(owner)

    def fails(*_args, **_values):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(executions, "start", fails)
        answer = client.post("/workflows/report/execute", {}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert int(answer["Retry-After"]) > 0
    assert "10.0.0.1" not in answer.content.decode()
    assert not Execution.objects.exists()
    # The control: it recovers by itself.
    assert client.post("/workflows/report/execute", {}, format="json").status_code == 202


def test_a37_a_middleware_that_meets_it_answers_the_same(client, monkeypatch):
    def fails(*_args, **_values):
        raise AWAY

    client.raise_request_exception = False
    monkeypatch.setattr("apps.accounts.ratelimit.RateLimitMiddleware.__call__", fails)
    answer = client.get("/workflows")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
