"""Accounts of every role, and clients that log in as them."""

import pytest
from django.core.cache import cache
from django.test import Client

from apps.accounts.models import Role, User

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def _fresh_limits():
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def make_user(db):
    def make(username, *roles, **fields):
        user = User.objects.create_user(username, password=PASSWORD, **fields)
        user.roles.set(Role.objects.filter(name__in=roles))
        return user

    return make


@pytest.fixture
def http():
    """A client that shows errors as a caller sees them."""
    return Client(raise_request_exception=False)


@pytest.fixture
def login(http):
    def post(username, password=PASSWORD, **extra):
        return http.post("/auth/token", {"username": username, "password": password}, "application/json", **extra)

    return post


@pytest.fixture
def bearer(login):
    """The header of a user who has just logged in."""

    def header(username):
        return {"Authorization": f"Bearer {login(username).json()['access_token']}"}

    return header
