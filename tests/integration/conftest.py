"""Accounts and small workflows, as integration tests want them."""

import itertools

import pytest

from apps.accounts.models import Role, User
from apps.core import bell
from apps.workflows.services import workflows

_numbers = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def _quiet_bells(django_db_setup):
    """The doorbell's own connection ends before the test database is dropped."""
    yield
    bell.close()


@pytest.fixture
def make_user(db):
    """An account with a role: `make_user("user")`."""

    def make(role=None, **values):
        user = User.objects.create(username=f"{role or 'nobody'}-{next(_numbers)}", **values)
        if role:
            user.roles.add(Role.objects.get(name=role))
        return user

    return make


@pytest.fixture
def owner(make_user):
    return make_user("user")


@pytest.fixture
def make_workflow(owner):
    """A workflow from steps: `make_workflow([{"id": "a", "python": "builtin.noop"}])`."""

    def make(steps, **values):
        name = values.pop("name", f"Workflow {next(_numbers)}")
        return workflows.create({"name": name, "steps": steps, **values}, by=values.pop("by", owner))

    return make


def noop(identity, *depends_on, **values):
    """A step that does nothing."""
    step = {"id": identity, "python": "builtin.noop", **values}
    return {**step, "depends_on": list(depends_on)} if depends_on else step
