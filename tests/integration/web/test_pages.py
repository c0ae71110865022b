"""The pages: who may open them, what each shows to whom, and that nothing on them is script of somebody else's."""

import re
from datetime import timedelta
from uuid import uuid4

import pytest
from django.test import Client
from guardian.shortcuts import assign_perm

from apps.core.clock import database_now
from apps.workflows.models import Event, Execution, Performer, Task, Workflow
from apps.workflows.services import breakers, executions, follow, workflows
from apps.workflows.services.estimates.folding import fold
from tests.integration.estimates.conftest import stretch
from tests.integration.web.conftest import DEFINITION, HTML, PASSWORD
from tests.integration.workflows.driver import claim, drive

pytestmark = pytest.mark.django_db
HOSTILE = "<img src=x onerror=alert(1)></pre><script>alert(1)</script>"


def paths(execution):
    return ["/ui/", f"/ui/executions/{execution.pk}", f"/ui/workflows/{execution.workflow.slug}"]


def test_the_root_leads_to_the_start_page(browser):
    answer = browser.get("/")
    assert (answer.status_code, answer["Location"]) == (302, "/ui/")


def test_nobody_is_sent_to_the_login_page_and_comes_back(browser, running):
    for path in paths(running):
        answer = browser.get(path)
        assert (answer.status_code, answer["Location"]) == (302, f"/ui/login?next={path}")


def test_nobody_may_read_as_a_guest_where_the_operator_says_so(browser, running, set_env):
    set_env(ANONYMOUS_ROLE="guest")
    for path in paths(running):
        answer = browser.get(path)
        assert answer.status_code == 200
        assert "Daily report" in answer.content.decode()
        assert "data-cancel" not in answer.content.decode()


@pytest.mark.parametrize("role", ["admin", "user", "agent", "system", "guest"])
def test_every_role_that_reads_workflows_reads_the_pages(as_user, running, role):
    client = as_user("ann", role)
    assert [client.get(path).status_code for path in paths(running)] == [200, 200, 200]


def test_an_account_without_a_role_sees_nothing_of_others(as_user, running):
    client = as_user("eve")
    start, *others = paths(running)
    page = client.get(start).content.decode()
    assert "Daily report" not in page
    assert "Nothing here yet" in page
    assert [client.get(path).status_code for path in others] == [404, 404]
    unknown = client.get(f"/ui/executions/{uuid4()}")
    assert unknown.status_code == 404
    assert "There is no such thing" in unknown.content.decode()


def test_a_grant_on_one_workflow_shows_it_and_no_other(as_user, make_user, make_workflow, running):
    make_workflow(name="Secret plan")
    eve = make_user("eve")
    assign_perm("workflow:read", eve, running.workflow)
    client = as_user("eve")
    for path in paths(running):
        page = client.get(path).content.decode()
        assert "Daily report" in page
        assert "Secret plan" not in page
    assert client.get("/ui/workflows/secret-plan").status_code == 404


def test_the_counts_are_of_what_the_caller_may_read(as_user, make_user, running):
    def counted(client):
        counts = client.get("/ui/").context["counts"]
        return counts.running, counts.in_line, counts.completed, counts.failed

    assert counted(as_user("ann", "guest")) == (0, 1, 0, 0)
    assert counted(as_user("eve")) == (0, 0, 0, 0)


def test_an_execution_shows_its_steps_and_its_journal(as_user, running, parsed):
    answer = as_user("ann", "user").get(f"/ui/executions/{running.pk}")
    steps = [given["data-step"] for tag, given in parsed(answer).tags if tag == "tr" and "data-step" in given]
    assert steps == ["fetch", "sum-up"]
    assert "execution.created" in answer.content.decode()
    assert f'data-live="/progress/ws?workflow_id={running.pk}"' in answer.content.decode()


def test_one_that_has_ended_asks_for_no_socket(as_user, running, owner):
    executions.cancel(running, by=owner)
    page = as_user("ann", "user").get(f"/ui/executions/{running.pk}").content.decode()
    assert "cancelled" in page
    assert "data-live" not in page
    assert "data-cancel" not in page


def test_what_is_left_is_told_only_where_there_is_a_history(as_user, running):
    began = running.created_at - timedelta(seconds=5)
    rows = Execution.objects.filter(pk=running.pk)
    rows.update(status="in_progress", started_at=began)
    client = as_user("ann", "user")
    assert "data-until" not in client.get(f"/ui/executions/{running.pk}").content.decode()
    past = executions.start(running.workflow, by=None)
    after = began + timedelta(hours=1)
    Task.objects.filter(execution=past).update(status="completed", ready_at=None, started_at=began, finished_at=after)
    Execution.objects.filter(pk=past.pk).update(
        status="completed", percent=100, open_tasks=0, ready_at=None, started_at=began,
        finished_at=after,
    )  # fmt: skip
    assert fold(running.workflow_id) == 1
    now = database_now()
    Performer.objects.create(name="w1", kind="worker", slots=4, load=0, seen_at=now, started_at=now, labels={})
    assert "data-until" in client.get(f"/ui/executions/{running.pk}").content.decode()


def test_who_may_cancel_sees_the_button(as_user, running, set_env):
    path = f"/ui/executions/{running.pk}"
    assert "data-cancel" in as_user("root", "admin").get(path).content.decode()
    assert "data-cancel" in as_user("owner").get(path).content.decode()
    assert "data-cancel" not in as_user("ann", "user").get(path).content.decode()
    set_env(BROWSABLE_API=False)  # the button asks the API, which sessions do not open then
    assert "data-cancel" not in as_user("root").get(path).content.decode()


def test_buttons_are_those_that_are_lawful_and_permitted(as_user, running, owner):
    path = f"/ui/executions/{running.pk}"

    def buttons(client):
        page = client.get(path).content.decode()
        return {verb for verb in ("pause", "resume", "retry", "fork", "cancel") if f"{running.pk}/{verb}" in page}

    assert buttons(as_user("root", "admin")) == {"pause", "cancel"}
    assert buttons(as_user("ann", "user")) == {"pause"}
    assert buttons(as_user("gus", "guest")) == set()
    executions.pause(running, by=owner)
    assert buttons(as_user("ann")) == {"resume"}
    executions.cancel(running, by=owner)
    assert buttons(as_user("ann")) == {"retry", "fork"}


def test_an_approval_is_a_form_for_those_who_may_give_it(as_user, make_workflow, owner, parsed):
    form = {
        "type": "object",
        "properties": {
            "amount": {"type": "integer", "title": HOSTILE}, "sure": {"type": "boolean"},
            "size": {"enum": ["s", "m"]}, "more": {"type": "array"},
        },
        "required": ["amount"],
    }  # fmt: skip
    steps = [{"id": "ok", "approval": {"who": ["user"], "form": form}}]
    execution = executions.start(make_workflow(steps=steps), by=owner)
    path = f"/ui/executions/{execution.pk}"
    answer = as_user("ann", "user").get(path)
    fields = [(tag, given["name"]) for tag, given in parsed(answer).tags if "data-kind" in given]
    assert fields[0] == ("input", "amount")
    assert sorted(fields[1:]) == [("input", "sure"), ("select", "size"), ("textarea", "more")]
    assert parsed(answer).blocked == []
    assert "<script>alert" not in answer.content.decode()
    for client in (as_user("owner"), as_user("gus", "guest"), as_user("sys", "system")):
        page = client.get(path).content.decode()
        assert "data-decide" not in page
        assert "it waits for an approval by user" in page


def test_many_items_are_one_row_with_a_count(as_user, make_workflow, owner, django_assert_max_num_queries):
    steps = [{"id": "load", "python": "builtin.noop", "for_each": list(range(200))}]
    execution = executions.start(make_workflow(steps=steps), by=owner)
    late = Task.objects.get(execution=execution, step_id="load[150]")
    Task.objects.filter(pk=late.pk).update(status="failed", ready_at=None, finished_at=execution.created_at)
    client = as_user("ann", "user")
    client.get("/ui/")
    with django_assert_max_num_queries(26):  # 200 items; savepoints of PostgreSQL and what is asked but once are in it
        answer = client.get(f"/ui/executions/{execution.pk}")
    (row,) = answer.context["steps"]
    assert (row.count["total"], row.task.step_id) == (200, "load")
    assert [item.step_id for item in row.items] == [*(f"load[{number}]" for number in range(50)), "load[150]"]
    assert "0 of 200 items" in answer.content.decode()


def test_related_executions_are_linked(as_user, make_workflow, owner, parsed):
    make_workflow(name="Child", steps=[{"id": "x", "python": "builtin.noop"}])
    parent = executions.start(make_workflow(name="Parent", steps=[{"id": "s", "workflow": {"id": "child"}}]), by=owner)
    child = Execution.objects.get(workflow__slug="child")
    client = as_user("ann", "user")
    assert f"/ui/executions/{child.pk}" in parsed(client.get(f"/ui/executions/{parent.pk}")).links
    assert f"/ui/executions/{parent.pk}" in parsed(client.get(f"/ui/executions/{child.pk}")).links
    executions.cancel(parent, by=owner)
    follow.sweep()
    again = executions.retry(parent, by=owner)
    assert f"/ui/executions/{parent.pk}" in parsed(client.get(f"/ui/executions/{again.pk}")).links


def test_the_empty_start_page_says_what_to_do_first(as_user):
    page = as_user("ann", "user").get("/ui/").content.decode()
    assert "curl http://testserver/workflows" in page
    assert "curl http://testserver/workflows/hello/execute" in page


def test_many_steps_are_cut_and_the_telling_ones_stay(as_user, make_workflow, owner):
    steps = [{"id": f"s{number}", "python": "builtin.noop"} for number in range(320)]
    execution = executions.start(make_workflow(steps=steps), by=owner)
    last = Task.objects.filter(execution=execution).order_by("-id")[:1].get()
    Task.objects.filter(pk=last.pk).update(status="failed", ready_at=None, finished_at=execution.created_at)
    page = as_user("ann", "user").get(f"/ui/executions/{execution.pk}")
    assert len(page.context["steps"]) == 300
    assert page.context["steps"][-1].task.pk == last.pk
    assert "20 more" in page.content.decode()


def test_pages_need_few_queries(as_user, make_workflow, owner, django_assert_max_num_queries):
    for number in range(5):
        executions.start(make_workflow(name=f"Report {number}"), by=owner)
    client = as_user("ann", "user")
    client.get("/ui/")
    with django_assert_max_num_queries(20):
        client.get("/ui/")
    execution = Execution.objects.first()
    with django_assert_max_num_queries(24):
        client.get(f"/ui/executions/{execution.pk}")


def test_no_page_has_inline_script_or_style(as_user, browser, running, parsed):
    client = as_user("ann", "admin")
    answers = [client.get(path) for path in [*paths(running), "/ui/no-such-page"]]
    answers += [browser.get("/ui/login"), browser.get("/ui/no-such-page")]
    for answer in answers:
        assert parsed(answer).blocked == []
        assert "unsafe" not in answer["Content-Security-Policy"]


def test_the_links_of_the_pages_lead_somewhere(as_user, running, parsed):
    client = as_user("root", "admin")
    links = {link.split("?")[0] for path in paths(running) for link in parsed(client.get(path)).links}
    for link in sorted(links - {"/ui/logout"}):
        status = client.get(link, headers={"Accept": "*/*"}).status_code
        assert status in (200, 302, 503), (link, status)  # 503: no worker is there to be ready


def test_a24_hostile_names_are_text(as_user, make_workflow, owner, parsed):
    hostile = make_workflow(name=HOSTILE, description=HOSTILE)
    Workflow.objects.filter(pk=hostile.pk).update(tags=[HOSTILE])  # the definition's rules refuse such a tag
    execution = executions.start(hostile, by=owner)
    Execution.objects.filter(pk=execution.pk).update(
        message=HOSTILE, inputs={HOSTILE: HOSTILE}, error={"type": HOSTILE, "message": HOSTILE}
    )
    Task.objects.filter(execution=execution).update(
        message=HOSTILE, error={"type": HOSTILE, "message": HOSTILE}, lease_owner=HOSTILE, outputs={HOSTILE: HOSTILE}
    )
    Event.objects.filter(execution=execution).update(data={"message": HOSTILE, "performer": HOSTILE})
    client = as_user("root", "admin")
    pages = [*paths(execution), "/admin/workflows/workflow/", "/admin/workflows/execution/", "/admin/workflows/task/"]
    pages += [f"/admin/workflows/workflow/{hostile.pk}/change/", f"/admin/workflows/execution/{execution.pk}/change/"]
    for path in pages:
        answer = client.get(path)
        assert answer.status_code == 200, path
        text = answer.content.decode()
        assert "<img src=x" not in text, path
        assert "<script>alert" not in text, path
        if path.startswith("/ui/"):
            assert parsed(answer).blocked == [], path
            assert "&lt;img src=x onerror=alert(1)&gt;" in text, path


def test_a24_an_error_page_repeats_nothing_as_markup(browser):
    answer = browser.get("/ui/%3Cscript%3Ealert(1)%3C/script%3E")
    assert answer.status_code == 404
    assert "<script>alert" not in answer.content.decode()


def test_reading_changes_nothing_and_other_methods_are_refused(as_user, running):
    client = as_user("ann", "user")
    before = (Workflow.objects.count(), Execution.objects.count(), Event.objects.count())
    for path in paths(running):
        assert client.get(path).status_code == 200
        assert client.head(path).status_code == 200
        assert client.post(path).status_code == 405
        assert client.delete(path).status_code == 405
    assert (Workflow.objects.count(), Execution.objects.count(), Event.objects.count()) == before


# --- login and logout -------------------------------------------------------------------------------------------------


def test_logging_in_leads_to_where_one_wanted_to_go(make_user, browser):
    make_user("ann", "user")
    form = {"username": "ann", "password": PASSWORD, "next": "/ui/workflows/daily"}
    answer = browser.post("/ui/login", form)
    assert (answer.status_code, answer["Location"]) == (302, "/ui/workflows/daily")
    assert browser.get("/ui/").context["user"].username == "ann"


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "/\\evil.example"]
)
def test_a_foreign_next_is_ignored(make_user, browser, target):
    make_user("ann", "user")
    answer = browser.post("/ui/login", {"username": "ann", "password": PASSWORD, "next": target})
    assert (answer.status_code, answer["Location"]) == (302, "/ui/")


def test_a_wrong_password_is_told_and_too_many_are_refused(make_user, browser, set_env):
    set_env(RATE_LIMIT_ENABLED=True, RATE_LIMIT_LOGIN="3/m")
    make_user("ann", "user")
    wrong = {"username": "ann", "password": "wrong"}
    for _ in range(3):
        answer = browser.post("/ui/login", wrong)
        assert answer.status_code == 200
        assert "correct username and password" in answer.content.decode()
    refused = browser.post("/ui/login", {"username": "ann", "password": PASSWORD})
    assert refused.status_code == 429
    assert int(refused["Retry-After"]) > 0
    assert "Too many failed logins" in refused.content.decode()


def test_logging_in_needs_the_token_of_the_form(make_user):
    make_user("ann", "user")
    client = Client(enforce_csrf_checks=True, headers=HTML)
    assert client.post("/ui/login", {"username": "ann", "password": PASSWORD}).status_code == 403


def test_logging_out_is_a_post_and_ends_the_session(as_user):
    client = as_user("ann", "user")
    assert client.get("/ui/logout").status_code == 405
    assert client.get("/ui/").status_code == 200
    assert client.post("/ui/logout").status_code == 302
    assert client.get("/ui/").status_code == 302


def test_a_disabled_account_is_at_the_door_again(as_user, make_user):
    ann = make_user("ann", "user")
    client = as_user("ann")
    ann.is_active = False
    ann.save()
    assert client.get("/ui/").status_code == 302


def test_breakers_are_shown_to_who_may_monitor_with_buttons_for_who_may_move_them(as_user, make_workflow, owner):
    make_workflow(name="Guarded", circuit_breaker="warehouse")
    breakers.open_("warehouse", by=owner, note="upgrade")
    reset = 'data-post="/circuit-breakers/warehouse/reset"'
    for username, role, shown, button in (
        ("op", "system", True, True), ("guest", "guest", True, False), ("somebody", "", False, False),
    ):  # fmt: skip
        page = as_user(username, role).get("/ui/").content.decode()
        assert ('data-breaker="warehouse"' in page, reset in page) == (shown, button), username


# --- the estimate on the page of an execution -------------------------------------------------------------------------


def _page_of_one_that_runs(as_user, make_user, *past):
    """The page of an execution whose first step runs, after others of these (fetch, sum-up) seconds."""
    now = database_now()
    Performer.objects.create(name="w1", kind="worker", slots=4, seen_at=now, started_at=now)
    owner = make_user("estimator", "user")
    workflow = workflows.create(DEFINITION, by=owner)
    for fetch, sum_up in past:
        execution = executions.start(workflow, by=owner)
        drive()
        stretch(execution, **{"fetch": fetch, "sum-up": sum_up})
        fold(workflow.pk)
    execution = executions.start(workflow, by=owner)
    claim()
    page = as_user("onlooker", "admin").get(f"/ui/executions/{execution.pk}")
    assert page.status_code == 200
    return " ".join(page.content.decode().split())


def test_the_page_tells_what_is_left_how_sure_that_is_and_on_what_it_rests(as_user, make_user):
    page = _page_of_one_that_runs(as_user, make_user, *[(100 + k, 300) for k in range(4)])
    assert "In 8 of 10 cases" in page
    assert "4 earlier executions, where that held" in page
    page = re.sub(r"<[^>]+>", "", page)
    assert re.search(r"Left ?about \d+ min \d\d s", page)


def test_the_page_says_that_nothing_is_known(as_user, make_user):
    page = _page_of_one_that_runs(as_user, make_user)
    assert "not known: no execution of this workflow has completed yet" in page
    assert "In 8 of 10 cases" not in page


def test_whoever_follows_the_link_of_an_alert_gets_a_page(browser, as_user):
    path = "/monitoring/runbooks/NoWorkers"
    answer = browser.get(path)
    assert (answer.status_code, answer["Location"]) == (302, f"/ui/login?next={path}")
    client = as_user("ann", "user")
    assert "Start a worker: <code>manage.py worker</code>." in client.get(path).content.decode()
    missing = client.get("/monitoring/runbooks/Nothing")
    assert (missing.status_code, missing["Content-Type"][:9]) == (404, "text/html")
    refused = as_user("agnes", "agent").get(path)
    assert (refused.status_code, refused["Content-Type"][:9]) == (403, "text/html")


def test_an_error_of_the_api_is_a_page_in_a_browser_and_json_elsewhere(as_user):
    client = as_user("ann", "user")
    shown = client.get("/workflows/nothing")
    assert (shown.status_code, shown["Content-Type"][:9]) == (404, "text/html")
    assert "&quot;not_found&quot;" in shown.content.decode()
    told = client.get("/workflows/nothing", headers={"Accept": "application/json"})
    assert (told.status_code, told["Content-Type"]) == (404, "application/problem+json")


def test_whoever_may_not_know_of_a_page_is_shown_the_way_to_log_in(browser, set_env):
    set_env(ANONYMOUS_ROLE="guest")
    path = f"/ui/executions/{uuid4()}"
    assert f'href="/ui/login?next={path}"' in browser.get(path).content.decode()


def test_a_step_is_shown_with_its_name_and_what_it_waits_for(as_user, make_workflow, owner):
    steps = [
        {"id": "decide", "name": "Is it <all> right?", "approval": {"allow_requester": True}},
        {"id": "pay", "depends_on": ["decide"], "python": "builtin.noop"},
    ]
    execution = executions.start(make_workflow(name="Named", steps=steps), by=owner)
    page = as_user("root", "admin").get(f"/ui/executions/{execution.pk}").content.decode()
    assert "<strong>decide</strong>: Is it &lt;all&gt; right?" in page
    assert '<span class="message">Is it &lt;all&gt; right?</span>' in page
    assert '<span class="message">pay</span>' not in page
    assert "its dependency has not ended: <code>decide</code> (it waits for an approval)" in page
