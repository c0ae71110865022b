"""Every route names its permission, and nobody without credentials gets past it."""

import re

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from apps.accounts.api.permissions import declared
from apps.accounts.permissions import Permission
from apps.core.api.access import AGENT, AUTHENTICATED, OPEN

# The only addresses that answer callers without credentials, as the contract lists them.
OPEN_ROUTES = {
    "auth/token",
    "auth/refresh",
    "auth/reset-password",
    "monitoring/health/live",
    "monitoring/health/ready",
    "ui/login",
    "ui/oidc/login",
    "ui/oidc/callback",
    "",  # leads to /ui/
}
# Those of which one method alone is open: a signature takes the place of credentials.
OPEN_METHODS = {("webhooks/<uuid:id>", "post")}
METHODS = ("get", "post", "put", "patch", "delete")
KNOWN = {permission.value for permission in Permission} | {OPEN, AUTHENTICATED, AGENT}


def walk(patterns, prefix=""):
    for entry in patterns:
        path = prefix + str(entry.pattern).lstrip("^").rstrip("$").replace("\\Z", "")
        if isinstance(entry, URLResolver):
            yield from walk(entry.url_patterns, path)
        elif isinstance(entry, URLPattern):
            yield path, entry.callback


ROUTES = [(path, view) for path, view in walk(get_resolver().url_patterns) if not path.startswith("admin/")]
API = [(path, view) for path, view in ROUTES if hasattr(view, "cls") and hasattr(view.cls, "required_permissions")]


def methods_of(view):
    actions = getattr(view, "actions", None)
    return list(actions) if actions else [m for m in METHODS if hasattr(view.cls, m)]


def instance(view, method):
    made = view.cls(**view.initkwargs)
    if getattr(view, "actions", None):
        made.action_map, made.action = view.actions, view.actions[method]
    return made


def test_there_are_routes_to_look_at():
    assert len(API) > 20


@pytest.mark.parametrize(("path", "view"), API, ids=[path for path, _ in API])
def test_every_method_of_every_api_route_declares_what_it_asks_for(path, view):
    for method in methods_of(view):
        code = declared(instance(view, method), method.upper())
        assert code in KNOWN, f"{method.upper()} /{path} declares {code!r}"
        if code == OPEN:
            assert path in OPEN_ROUTES or (path, method) in OPEN_METHODS, (
                f"/{path} is open, and the contract does not say so"
            )


def test_no_route_ends_in_a_slash_but_the_pages_root():
    assert [path for path, _ in ROUTES if path.endswith("/")] == ["ui/"]


def concrete(path):
    """The address with an id that nothing bears."""
    path = re.sub(r"(?<!P)<(?:uuid:)?\w+>", "00000000-0000-7000-8000-000000000000", path)
    path = re.sub(r"(?<!P)<\w+:\w+>", "nothing", path)
    path = re.sub(r"\(\?P<\w+>[^()]*\)", "00000000-0000-7000-8000-000000000000", path)
    return "/" + path.replace("\\.", ".")


@pytest.mark.django_db
@pytest.mark.parametrize(("path", "view"), ROUTES, ids=[path for path, _ in ROUTES])
def test_a7_nobody_gets_past_a_route_that_the_contract_does_not_list_as_open(client, path, view):
    if path in OPEN_ROUTES:
        return
    for method in methods_of(view) if hasattr(view, "cls") else ["get", "post"]:
        if (path, method) in OPEN_METHODS:
            continue
        answer = getattr(client, method)(concrete(path), data={}, content_type="application/json")
        to_login = answer.status_code == 302 and answer["Location"].startswith("/ui/login")
        assert answer.status_code in (401, 403, 405) or to_login, (
            f"{method.upper()} {concrete(path)}: {answer.status_code}"
        )
        if hasattr(view, "cls"):
            assert answer.status_code == 401
            assert answer["Content-Type"] == "application/problem+json"


# Changing methods that leave no entry in the audit log when they succeed: questions, and what is told elsewhere.
UNTOLD = {
    "post agents/<uuid:id>/claim", "post agents/<uuid:id>/heartbeat",
    *(f"post agents/<uuid:id>/tasks/<uuid:task_id>/{what}"
      for what in ("progress", "complete", "fail", "logs", "artifacts")),
    "post auth/second-factor", "post auth/second-factor/confirm", "post auth/second-factor/remove",
    "post auth/token", "post auth/refresh", "post progress/update", "post progress/ticket", "post webhooks/<uuid:id>",
    # These by the services, in their transactions:
    "post auth/api-tokens", "delete auth/api-tokens/<uuid:id>", "post ^workflows",
    "put ^workflows/(?P<id>[A-Za-z0-9_-]+)", "delete ^workflows/(?P<id>[A-Za-z0-9_-]+)",
    "post ^workflows/validate", "post ^workflows/(?P<id>[A-Za-z0-9_-]+)/plan", "post ^schedules/preview",
}  # fmt: skip


def test_every_changing_route_is_told_to_the_audit_log_or_listed():
    found = set()
    for path, view in API:
        for method in methods_of(view):
            action = instance(view, method).action if getattr(view, "actions", None) else method.upper()
            if method not in ("get", "head") and action in view.cls.untold:
                found.add(f"{method} {path}")
    assert found == {one.replace("^", "") for one in UNTOLD}


def test_what_is_told_together_is_an_action_that_there_is():
    for path, view in API:
        assert getattr(view.cls, "together", frozenset()) <= set(view.cls.required_permissions), path
        assert not getattr(view.cls, "together", frozenset()) & getattr(view.cls, "untold", frozenset()), path
