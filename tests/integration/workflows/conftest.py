"""Clients of the API that are somebody."""

import pytest
from rest_framework.test import APIClient


@pytest.fixture
def as_user(make_user):
    """A client that is somebody: `as_user("user")`."""

    def make(role_or_user=None):
        client = APIClient(raise_request_exception=False)
        user = make_user(role_or_user) if isinstance(role_or_user, str) or role_or_user is None else role_or_user
        client.force_authenticate(user)
        client.user = user
        return client

    return make
