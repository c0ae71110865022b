"""Callers of the API, and executions of theirs."""

import pytest
from guardian.shortcuts import assign_perm
from rest_framework.test import APIClient

from apps.workflows.services import executions


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


@pytest.fixture
def run(make_workflow, owner):
    """An execution of a workflow of the owner's with these steps: `run([noop("a")], name="Report")`."""

    def start(steps, *, inputs=None, **values):
        return executions.start(make_workflow(steps, **values), by=owner, inputs=inputs)

    return start


@pytest.fixture
def callers(make_user, owner, client_of):
    """Clients by who they are to the owner's workflow, as `callers(execution)`."""

    def make(execution):
        plain = type(owner).objects.get(pk=owner.pk)
        plain.roles.clear()
        granted, reader = make_user(), make_user()
        assign_perm("workflow:read", granted, execution.workflow)
        assign_perm("workflow:execute", granted, execution.workflow)
        assign_perm("workflow:read", reader, execution.workflow)
        users = {
            "admin": make_user("admin"), "user": make_user("user"), "agent": make_user("agent"),
            "system": make_user("system"), "guest": make_user("guest"), "owner": plain, "granted": granted,
            "reader": reader, "stranger": make_user(),
        }  # fmt: skip
        return {name: client_of(user) for name, user in users.items()}

    return make
