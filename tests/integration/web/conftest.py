"""Accounts, browsers, and workflows made by the services."""

import re
from html.parser import HTMLParser

import pytest
from django.core.cache import cache
from django.test import Client

from apps.accounts.models import Role, User
from apps.workflows.services import executions, workflows

PASSWORD = "correct horse battery"
HTML = {"Accept": "text/html"}
DEFINITION = {
    "name": "Daily report",
    "steps": [
        {"id": "fetch", "python": "builtin.noop"},
        {"id": "sum-up", "depends_on": ["fetch"], "python": "builtin.noop"},
    ],
}


@pytest.fixture(autouse=True)
def _fresh_limits():
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def make_user(db):
    def make(username, *roles):
        user = User.objects.create_user(username, password=PASSWORD)
        user.roles.set(Role.objects.filter(name__in=roles))
        return user

    return make


@pytest.fixture
def browser():
    """A browser without a session."""
    return Client(raise_request_exception=False, headers=HTML)


@pytest.fixture
def as_user(make_user):
    """A browser in which somebody with these roles is logged in."""

    def login(username, *roles):
        client = Client(raise_request_exception=False, headers=HTML)
        client.force_login(User.objects.filter(username=username).first() or make_user(username, *roles))
        return client

    return login


@pytest.fixture
def owner(make_user):
    return make_user("owner", "user")


@pytest.fixture
def make_workflow(owner):
    def make(by=None, **changes):
        return workflows.create({**DEFINITION, **changes}, by=by or owner)

    return make


@pytest.fixture
def running(make_workflow, owner):
    """An execution with two steps, the first of which is in line."""
    return executions.start(make_workflow(), by=owner)


class _Page(HTMLParser):
    """What the content policy would block, and the links of a page."""

    def __init__(self):
        super().__init__()
        self.blocked = []
        self.links = []
        self.tags = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag == "style" or (tag == "script" and "src" not in given):
            self.blocked.append(tag)
        self.blocked += [f"{tag} {name}" for name in given if name == "style" or name.startswith("on")]
        for name in ("href", "src", "action"):
            value = given.get(name) or ""
            if re.match(r"(?i)\s*javascript:|https?:|//", value):
                self.blocked.append(f"{tag} {name}={value}")
            if value.startswith("/"):
                self.links.append(value)


@pytest.fixture
def parsed():
    def parse(response):
        page = _Page()
        page.feed(response.content.decode())
        return page

    return parse
