"""The sweep: many watchers' rights together are what each one's own would be, and cost no more queries than a few's."""

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.contrib.auth.models import Permission as Codename
from django.db import connection
from django.test.utils import CaptureQueriesContext
from guardian.shortcuts import assign_perm

from apps.accounts import api_tokens, tokens
from apps.accounts.callers import read_bearer
from apps.accounts.models import Role
from apps.accounts.permissions import Permission
from apps.core.errors import PlatformError
from apps.progress import sweep
from apps.progress.credentials import Credential, may_watch
from apps.progress.sweep import Asked, judge
from apps.workflows.models import Execution, Workflow, WorkflowRolePermission

pytestmark = pytest.mark.django_db(transaction=True)

run = sync_to_async


@pytest.fixture
def executions(reporter):
    for name in ("a", "b", "c"):
        assert reporter.report(name, 10).status_code == 200
    return {row.workflow.slug: row.pk for row in Execution.objects.select_related("workflow")}


@pytest.fixture
def people(make_user, executions):
    """Accounts that may watch, or not, in every way there is."""
    ways = ("nothing", "owner", "grant", "another grant", "group", "role", "all of them")
    made = {way: make_user() for way in ways} | {"reads by role": make_user("guest")}
    flows = {row.slug: row for row in Workflow.objects.all()}
    group, role = Group.objects.create(name="team"), Role.objects.create(name="auditor")
    Workflow.objects.filter(slug="a").update(owner=made["owner"])
    assign_perm("workflow:read", made["grant"], flows["a"])
    assign_perm("workflow:read", made["grant"], flows["b"])
    assign_perm("workflow:update", made["another grant"], flows["a"])
    assign_perm("workflow:read", made["all of them"], flows["a"])
    assign_perm("workflow:read", group, flows["b"])
    reading = Codename.objects.get(codename="workflow:read", content_type__app_label="workflows")
    WorkflowRolePermission.objects.create(role=role, permission=reading, content_object=flows["c"])
    for way in ("group", "all of them"):
        made[way].groups.add(group)
    for way in ("role", "all of them"):
        made[way].roles.add(role)
    return made


def logged_in(user):
    return Credential(bearer=read_bearer(tokens.issue(user).access_token))


def asking(credential, chosen=(), roamed=()):
    return Asked(credential=credential, chosen=frozenset(chosen), roamed=frozenset(roamed))


SEEN = {
    "nothing": "", "owner": "a", "grant": "ab", "another grant": "", "group": "b", "role": "c", "all of them": "abc",
    "reads by role": "abc",
}  # fmt: skip


def test_what_is_asked_of_all_together_is_what_the_gate_says_of_each(people, executions):
    verdicts = judge([asking(logged_in(user), roamed=executions.values()) for user in people.values()])
    for (way, user), verdict in zip(people.items(), verdicts, strict=True):
        visible = Execution.objects.visible_to(user, Permission.PROGRESS_READ)
        seen = {executions[name] for name in SEEN[way]}
        assert set(visible.values_list("pk", flat=True)) == seen, way
        assert may_watch(user) == bool(seen), way
        if seen:
            told, gone = verdict
            assert (told.pk, set(gone)) == (user.pk, set(executions.values()) - seen), way
        else:
            assert isinstance(verdict, PlatformError), way


def test_who_watches_nothing_yet_may_stay_if_there_is_anything_that_he_may_watch(people, executions):
    verdicts = judge([asking(logged_in(user)) for user in people.values()])
    may = {way for way, verdict in zip(people, verdicts, strict=True) if not isinstance(verdict, PlatformError)}
    assert may == {way for way, seen in SEEN.items() if seen}


def test_a17_what_was_chosen_and_is_seen_no_more_ends_that_watcher_alone(people, executions):
    by = logged_in(people["grant"])
    verdicts = judge([asking(by, chosen=[executions[name]]) for name in "abc"])
    assert [isinstance(verdict, PlatformError) for verdict in verdicts] == [False, False, True]


def test_a_token_of_single_workflows_is_asked_for_itself(people, executions):
    owner = people["all of them"]
    _, key = api_tokens.create(by=owner, name="ci", wanted=["progress:read"], expires_in_days=1, workflows=["a"])
    by_token = Credential(bearer=read_bearer(key))
    (_, gone), (_, none) = judge([asking(by, roamed=executions.values()) for by in (by_token, logged_in(owner))])
    assert (set(gone), none) == ({executions["b"], executions["c"]}, [])


def test_many_watchers_by_grants_cost_the_queries_of_a_few(make_user, executions):
    flow = Workflow.objects.get(slug="a")

    def cost(count):
        asked = []
        for _ in range(count):
            user = make_user()
            assign_perm("workflow:read", user, flow)
            asked += [asking(logged_in(user), chosen=[executions["a"]]), asking(logged_in(user))]
        with CaptureQueriesContext(connection) as queries:
            assert not any(isinstance(verdict, PlatformError) for verdict in judge(asked))
        return len(queries)

    assert cost(20) == cost(2)


async def test_a17_whose_right_cannot_be_asked_is_closed_and_nobody_else(socket, reporter, reader, monkeypatch):
    monkeypatch.setattr(sweep, "PART", 1)
    monkeypatch.setattr(sweep, "UNVERIFIED_SECONDS", 3.0)  # of the other the sweep is heard sooner
    await run(reporter.report)("t", 1)

    def away(asked):
        if asked[0].credential.bearer.user_id == reader.user.pk:
            raise OSError("the database is away")
        return judge(asked)

    one, other = socket("workflow_id=t", by=reader), socket("workflow_id=t", by=reporter)
    for each in (one, other):
        assert await each.open()
        await each.frame()
    monkeypatch.setattr(sweep, "judge", away)
    code, frames = await one.closed()
    assert (code, frames[-1]["code"]) == (1013, "unavailable")
    await run(reporter.report)("t", 2)
    assert (await other.frame())["percent_complete"] == 2
    assert await other.link.receive_nothing(timeout=1)
