"""Callers with and without `monitoring:read`, and facts that are read anew in every test."""

import pytest
from django.test import Client

from apps.accounts.models import Role, User
from apps.monitoring import facts


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
def set_env(settings):
    def change(**values):
        settings.ENV = settings.ENV.model_copy(update=values)

    return change


def _client(username, role):
    user = User.objects.create_user(username, password="correct horse battery")
    user.roles.set([Role.objects.get(name=role)])
    client = Client(raise_request_exception=False)
    client.force_login(user, backend="apps.accounts.backends.PasswordBackend")
    return client
