"""Callers with and without `monitoring:read`, and facts that are read anew in every test."""

import time
from datetime import timedelta

import pytest
from django.test import Client

from apps.accounts.models import Role, User
from apps.core.clock import database_now
from apps.monitoring import facts
from apps.monitoring.alerts import watching
from tests.integration.monitoring.rows import make_execution, make_workflow


@pytest.fixture(autouse=True)
def _fresh_facts():
    facts.cache.forget()
    yield
    facts.cache.forget()


@pytest.fixture
def anonymous():
    return Client(raise_request_exception=False)


@pytest.fixture
def reader(db):
    """A client of the role `user`, which may read monitoring."""
    return _client("reader", "user")


@pytest.fixture
def outsider(db):
    """A client of the role `agent`, which may not."""
    return _client("outsider", "agent")


@pytest.fixture
def watch(monkeypatch):
    """A process that has seen nothing yet, and looks whenever it is asked."""
    fresh = watching.Watch()
    monkeypatch.setattr("apps.monitoring.alerts.answers.watch", fresh)
    monkeypatch.setattr(watching, "INTERVAL_SECONDS", 0.0)
    return fresh


@pytest.fixture
def operator(db):
    return _client("operator", "system")


@pytest.fixture
def backlog(watch):
    """A step that could run since two hours, no worker: `NoWorkers` has been true for five minutes."""
    ready = database_now() - timedelta(hours=2)
    tasks = [{"step_id": "a", "status": "pending", "ready_at": ready}]
    make_execution(make_workflow("report", "a"), "in_progress", tasks=tasks, ready_at=ready)
    for minute in range(6):
        watch.look(time.time() - 300 + minute * 60)


def _client(username, role):
    user = User.objects.create_user(username, password="correct horse battery")
    user.roles.set([Role.objects.get(name=role)])
    client = Client(raise_request_exception=False)
    client.force_login(user, backend="apps.accounts.backends.PasswordBackend")
    return client
