"""The admin pages of the engine's tables: read by permission, written by nobody, cancelled through the service."""

import pytest
from django.contrib import admin

from apps.accounts.admin_base import PermissionModelAdmin
from apps.workflows.admin_grants import GrantAdmin
from apps.workflows.engine.states import Status
from apps.workflows.models import CircuitBreaker, Execution, Receiver, Task, Webhook
from apps.workflows.services import executions

pytestmark = pytest.mark.django_db
PAGES = [
    "workflow",
    "execution",
    "task",
    "schedule",
    "performer",
    "lane",
    "ratelimit",
    "circuitbreaker",
    "webhook",
    "receiver",
    "notification",
]


def cancel(client, *rows):
    form = {"action": "cancel", "_selected_action": [str(row.pk) for row in rows]}
    return client.post("/admin/workflows/execution/", form, follow=True)


def status_of(execution):
    return Execution.objects.get(pk=execution.pk).status


def test_every_page_asks_for_our_permissions():
    pages = [page for model, page in admin.site._registry.items() if model._meta.app_label == "workflows"]
    pages = [page for page in pages if not isinstance(page, GrantAdmin)]  # grants are rights, not the engine's rows
    assert len(pages) == len(PAGES)
    for page in pages:
        assert isinstance(page, PermissionModelAdmin)
        # The thresholds of a breaker are an administrator's too; its form goes through the service.
        assert set(page.permissions) == {"view"} | ({"change"} if page.model is CircuitBreaker else set())
        assert page.search_fields
        assert page.list_filter


@pytest.mark.parametrize("page", PAGES)
def test_lists_are_searched_and_filtered(as_user, running, page):
    client = as_user("root", "admin")
    assert client.get(f"/admin/workflows/{page}/?q=daily").status_code == 200
    assert client.get(f"/admin/workflows/{page}/").status_code == 200


@pytest.mark.parametrize("page", PAGES)
def test_nobody_adds_changes_or_deletes(as_user, running, page):
    client = as_user("root", "admin")
    row = {"workflow": running.workflow, "execution": running, "task": Task.objects.first()}.get(page)
    assert client.get(f"/admin/workflows/{page}/add/").status_code == 403
    if row is not None:
        assert client.get(f"/admin/workflows/{page}/{row.pk}/change/").status_code == 200
        assert client.post(f"/admin/workflows/{page}/{row.pk}/change/", {"status": "failed"}).status_code == 403
        assert client.post(f"/admin/workflows/{page}/{row.pk}/delete/", {"post": "yes"}).status_code == 403


def test_the_site_is_closed_to_who_may_not_read_the_system(as_user, running):
    assert as_user("ann", "user").get("/admin/workflows/execution/").status_code == 302


def test_rows_lead_to_their_pages(as_user, running):
    page = as_user("root", "admin").get("/admin/workflows/execution/").content.decode()
    assert f'href="/ui/executions/{running.pk}"' in page


def test_a_workflow_is_shown_with_its_versions(as_user, running):
    page = as_user("root", "admin").get(f"/admin/workflows/workflow/{running.workflow_id}/change/").content.decode()
    assert "sum-up" in page
    assert running.version.checksum in page


def test_cancelling_asks_the_service(as_user, running):
    answer = cancel(as_user("root", "admin"), running)
    assert "1 asked to stop" in answer.content.decode()
    assert status_of(running) == Status.CANCELLED
    assert running.events.filter(type="execution.cancelled").count() == 1


def test_a_refusal_is_told_and_keeps_no_other_from_being_cancelled(as_user, running, owner):
    other = executions.start(running.workflow, by=owner)
    executions.cancel(running, by=owner)
    answer = cancel(as_user("root", "admin"), running, other).content.decode()
    assert "it cannot be cancelled" in answer
    assert "1 asked to stop" in answer
    assert status_of(other) == Status.CANCELLED


def test_cancelling_needs_its_own_permission(as_user, running):
    answer = cancel(as_user("sys", "system"), running)
    assert "asked to stop" not in answer.content.decode()
    assert status_of(running) == Status.PENDING


def test_an_owner_cancels_what_is_theirs_and_nothing_else(as_user, make_user, make_workflow, running):
    sys = make_user("sys", "system")
    own = executions.start(make_workflow(name="Mine", by=sys), by=sys)
    answer = cancel(as_user("sys"), running, own).content.decode()
    assert "this needs task:delete" in answer
    assert (status_of(own), status_of(running)) == (Status.CANCELLED, Status.PENDING)


def test_sealed_values_are_shown_to_nobody(as_user, running):
    now = running.created_at
    stamps = {"created_at": now, "updated_at": now}
    made = [
        ("webhook", Webhook.objects.create(workflow=running.workflow, name="door", secret="sealed-1", **stamps)),
        ("receiver", Receiver.objects.create(name="ops", kind="slack", target="sealed-2", secret="sealed-3", **stamps)),
    ]
    client = as_user("root", "admin")
    for page, row in made:
        for path in (f"/admin/workflows/{page}/", f"/admin/workflows/{page}/{row.pk}/change/"):
            answer = client.get(path)
            assert answer.status_code == 200
            assert "sealed-" not in answer.content.decode()


def test_the_thresholds_of_a_breaker_are_fixed_by_the_form_and_nothing_else_of_it(as_user, make_workflow):
    make_workflow(name="Guarded", circuit_breaker="warehouse")
    form = {"open_failures": 9, "open_ratio": 0.25, "window_seconds": 10, "open_seconds": 5, "fixed": "on"}
    page = "/admin/workflows/circuitbreaker/warehouse/change/"
    answer = as_user("root", "admin").post(page, {**form, "state": "open", "calls": 7})
    assert answer.status_code == 302, answer.content.decode()[-2000:]
    row = CircuitBreaker.objects.get()
    assert (row.open_failures, row.open_ratio, row.window_seconds, row.open_seconds, row.fixed) == (
        9,
        0.25,
        10,
        5,
        True,
    )
    assert (row.state, row.calls) == ("closed", 0)
    assert as_user("root").post(page, {**form, "open_ratio": 7}).status_code == 200
    assert CircuitBreaker.objects.get().open_ratio == 0.25
    assert as_user("reader", "guest").post(page, form).status_code in (302, 403)
    assert CircuitBreaker.objects.get().open_failures == 9
