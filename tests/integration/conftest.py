"""Accounts, small workflows and settings, as integration tests want them."""

import itertools
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest
from django.db import connections
from rest_framework.test import APIClient

from apps.accounts.models import Role, User
from apps.core import bell
from apps.core.api import asgi
from apps.workflows.services import workflows
from apps.workflows.services.ledger import lanes

_numbers = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def _quiet_bells(django_db_setup):
    """The doorbell's own connection ends before the test database is dropped."""
    yield
    bell.close()


@pytest.fixture(autouse=True)
def _other_lanes():
    """What a claim remembers of the lanes for a moment are those of the test before."""
    lanes.forget()


@pytest.fixture(scope="session", autouse=True)
def _no_request_connection_stays_open(django_db_setup, django_db_blocker):
    """The threads of requests keep their connections, which PostgreSQL would count when the database is dropped."""
    yield
    threads = len(asgi._threads._threads)
    together = threading.Barrier(threads) if threads else None

    def close():
        together.wait(60)
        with django_db_blocker.unblock():
            connections.close_all()

    for done in [asgi._threads.submit(close) for _ in range(threads)]:
        done.result(120)


@pytest.fixture(autouse=True)
def _within_one_window(monkeypatch):
    """Limits and one-time codes count in windows of the wall clock: no test straddles the end of one."""
    now = int(time.time())
    for module in ("django_ratelimit.core", "allauth.mfa.totp.internal.auth"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(time=lambda: now))


@pytest.fixture
def set_env(settings):
    """Change settings of the environment for one test: `set_env(SLOTS=2)`."""

    def change(**values):
        settings.ENV = settings.ENV.model_copy(update=values)

    return change


@pytest.fixture
def small_disk(tmp_path, set_env):
    """The artifacts' own file system, of one MiB; only root can make one."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no small file system can be made here: {made.stderr.decode().strip()}")
    set_env(ARTIFACT_STORAGE_URL=f"file://{place}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


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
def client_of():
    """A client that is this account."""

    def make(user):
        client = APIClient(raise_request_exception=True)
        client.force_authenticate(user)
        client.user = user
        return client

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
