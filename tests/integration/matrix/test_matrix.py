"""A8: every cell of the matrix, asked by a real request: route × method × caller × relation."""

import collections
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.contrib import admin
from django.core.cache import cache
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from apps.progress.routing import refuse, websocket
from orchestration import matrix
from tests.integration.matrix import world as worlds

ROOT = Path(__file__).resolve().parents[3]
METHODS = ("get", "post", "put", "patch", "delete")
PAGES = {
    "/ui/login": ("GET", "POST"), "/ui/logout": ("POST",), "/ui/account": ("GET", "POST"), "/ui/oidc/login": ("POST",),
}  # fmt: skip  # Django's own views do not say


def walk(patterns, prefix=""):
    for entry in patterns:
        path = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from walk(entry.url_patterns, path)
        elif isinstance(entry, URLPattern):
            yield "/" + re.sub(r"\(\?P<(\w+)>[^()]*\)|<(?:\w+:)?(\w+)>", r"{\1\2}", path).strip("^$"), entry.callback


def served():
    """Every method of every route, as the router has it; the sockets by their ASGI routes."""
    for path, view in walk(get_resolver().url_patterns):
        if path.startswith("/admin/"):
            continue
        if actions := getattr(view, "actions", None):
            methods = [method.upper() for method in actions if method in METHODS]
        elif cls := getattr(view, "cls", None):
            methods = [method.upper() for method in METHODS if hasattr(cls, method)]
        else:
            methods = PAGES.get(path, ("GET",))
        for method in methods:
            yield f"{method} {path}"
    for route in websocket.routes:
        if getattr(route.callback, "consumer_class", None):
            yield f"WS /{route.pattern}"


@pytest.fixture(autouse=True)
def _fresh_cache():
    cache.clear()
    yield
    cache.clear()


def test_a7_the_matrix_declares_exactly_what_is_served():
    assert sorted(matrix.ROUTES) == sorted(served())


def test_a7_the_server_has_no_door_beside_these():
    """The ASGI application itself, as a server process makes it: which protocols there are, and where they lead."""
    told = (
        "from orchestration.asgi import application; from apps.progress.routing import websocket; "
        "print(sorted(application.application_mapping), application.application_mapping['websocket'] is websocket)"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "orchestration.settings.test"}
    done = subprocess.run(
        [sys.executable, "-c", told],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.strip() == "['http', 'websocket'] True", done.stderr
    *routes, last = websocket.routes
    assert [str(route.pattern) for route in routes] == ["progress/ws"]
    assert last.callback is refuse  # whatever else is asked for is refused in the handshake


def test_a7_the_matrix_declares_exactly_the_pages_of_the_admin():
    registered = {f"{model._meta.app_label}/{model._meta.model_name}" for model in admin.site._registry}
    assert set(matrix.ADMIN) == registered


@pytest.mark.django_db
def test_a8_every_cell_over_http(settings, request):
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": False})
    world = worlds.build()
    wrong, counts = [], collections.Counter()
    for route, _, caller, relation, expected in matrix.cells():
        if route.startswith("WS "):
            continue
        thing = world.thing(caller, relation)
        with transaction.atomic():
            answer = worlds.ask(world.clients[caller], route, thing)
            transaction.set_rollback(True)
        cache.clear()
        found = worlds.seen(answer)
        counts[expected] += 1
        counts["2xx"] += answer.status_code < 300
        if found != expected:
            assert not request.config.getoption("maxfail"), f"{route} as {caller} ({relation})"  # `-x`: at the first
            wrong.append(f"{route} as {caller} ({relation}): {expected} is declared, {answer.status_code} was answered")
    print(f"matrix over HTTP: {sum(counts.values()) - counts['2xx']} cells, {dict(counts)}")
    assert not wrong, "\n".join(wrong)
    # The positive control: those who are let in do what they came for, nearly everywhere.
    assert counts["2xx"] > 0.8 * counts["yes"]


@pytest.mark.django_db
def test_a8_every_page_of_the_admin(settings):
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": False})
    world = worlds.build()
    wrong, count = [], 0
    for caller in matrix.CALLERS:
        client = Client()
        if caller in world.users:
            client.force_login(world.users[caller])
        for page in matrix.ADMIN:
            for verb, path in (("view", ""), ("add", "add/"), ("delete", "{pk}/delete/"), ("change", "{pk}/change/")):
                pk = row_of(page, world)
                if "{pk}" in path and pk is None:
                    continue
                url = f"/admin/{page}/{path.format(pk=pk)}"
                # A page to look at opens for whoever may view; to save on it is `change`.
                answer = client.post(url, {}) if verb == "change" else client.get(url)
                expected = matrix.expected_in_admin(page, verb, caller)
                found = worlds.seen(answer)
                found = ("401" if caller == matrix.NOBODY else "403") if found == "to login" else found
                count += 1
                if found != expected:
                    wrong.append(
                        f"{verb} {page} as {caller}: {expected} is declared, {answer.status_code} was answered"
                    )
    print(f"matrix of the admin: {count} cells")
    assert not wrong, "\n".join(wrong)


def row_of(page, world):
    """The key of a row that this page shows; for accounts and roles one that an admin may delete."""
    from django.apps import apps

    model = apps.get_model(page.replace("/", "."))
    if page == "accounts/user":
        return world.users[matrix.NO_ROLE].pk
    if page == "accounts/role":
        return model.objects.get_or_create(name="spare")[0].pk
    if page == "auth/group":
        return model.objects.get_or_create(name="spare")[0].pk
    return model._default_manager.values_list("pk", flat=True).first()
