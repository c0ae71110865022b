"""A30: what is secret is written and never read back: over every GET route, every page of the admin, and exports."""

import io

import pytest
from django.apps import apps
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client

from apps.accounts import api_tokens, one_time, tokens
from apps.accounts.models import AuditEntry, User
from apps.workflows.services import receivers, webhooks
from orchestration import matrix
from tests.integration.matrix import world as worlds

pytestmark = pytest.mark.django_db
PASSWORD = "hunter2 hunter2 hunter2"


@pytest.fixture
def world(settings):
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": False})
    cache.clear()
    yield worlds.build()
    cache.clear()


def hidden(world):
    """Everything secret that there is, by its name: as it was given, and as it is kept."""
    admin = User.objects.get(pk=world.users["admin"].pk)
    admin.set_password(PASSWORD)
    admin.save()
    world.log_in("admin")
    thing = world.thing("admin", "own")
    _, signing = webhooks.create(thing.workflow, name="door", inputs={}, by=admin)
    receivers.create(
        name="hidden", kind="webhook", target="https://ops.invalid/hook", secret="whsec_" + "c2VjcmV0" * 4, by=admin
    )
    _, token = api_tokens.create(by=admin, name="scraper", wanted=["monitoring:read"], expires_in_days=1)
    pair = tokens.issue(admin)
    found = {
        "password": PASSWORD,
        "password hash": admin.password,
        "webhook": signing,
        "receiver": "c2VjcmV0" * 4,
        "API token": token,
        "refresh token": pair.refresh_token,
        "one-time token": one_time.issue(admin, by=None).token.partition(".")[2],
        "value of a secret": "a value of a secret",
        "sealed": "gAAAA",
    }
    assert all(len(str(secret)) >= 5 for secret in found.values())
    return found


def test_a30_no_route_reads_a_secret_back(world):
    secrets, thing, wrong, read = hidden(world), world.thing("admin", "own"), [], 0
    client = world.clients["admin"]
    for route in matrix.ROUTES:
        if not route.startswith("GET ") or route.endswith("/stream"):
            continue
        answer = worlds.ask(client, route, thing)
        text = b"".join(answer).decode() if answer.streaming else answer.content.decode()
        read += answer.status_code == 200
        wrong += [f"{route}: {name}" for name, secret in secrets.items() if str(secret) in text]
    assert read > 40
    assert not wrong, "\n".join(wrong)


def test_a30_no_page_of_the_admin_shows_a_secret(world):
    secrets, wrong, read = hidden(world), [], 0
    browser = Client()
    browser.force_login(User.objects.get(pk=world.users["admin"].pk))
    for page in matrix.ADMIN:
        rows = apps.get_model(page.replace("/", "."))._default_manager.values_list("pk", flat=True)[:20]
        for path in ("", *(f"{pk}/change/" for pk in rows), *(f"{pk}/history/" for pk in rows[:1])):
            answer = browser.get(f"/admin/{page}/{path}")
            read += answer.status_code == 200
            text = answer.content.decode()
            wrong += [f"{page}/{path}: {name}" for name, secret in secrets.items() if str(secret) in text]
    assert read > 40
    assert not wrong, "\n".join(wrong)


def test_a30_neither_the_audit_log_nor_an_export_holds_one(world, tmp_path):
    secrets = hidden(world)
    out = io.StringIO()
    call_command("export", str(tmp_path / "files"), stdout=out)
    written = out.getvalue() + "".join(file.read_text() for file in (tmp_path / "files").rglob("*") if file.is_file())
    kept = str(list(AuditEntry.objects.values()))
    assert "approval" in written  # the positive control: workflows were exported
    assert not [name for name, secret in secrets.items() if str(secret) in written + kept]
