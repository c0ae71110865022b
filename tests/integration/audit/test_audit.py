"""The audit log: what is told, in which transaction, that nothing secret is in it, and that a change is found."""

import json

import pytest
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from guardian.shortcuts import assign_perm, remove_perm

from apps.accounts import audit, services, tokens
from apps.accounts.audit.chain import verify
from apps.accounts.audit.models import AuditEntry, AuditHead
from apps.accounts.models import Permission, Role, User
from apps.workflows.models import Workflow
from apps.workflows.services import executions
from tests.integration.conftest import noop

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def _fresh_cache():
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def login(make_user):
    def make(role):
        return make_user(role, password=make_password(PASSWORD))

    return make


def told(**values):
    """The entries with these values, oldest first, as (action, object, outcome)."""
    rows = AuditEntry.objects.filter(**values).order_by("seq")
    return [(row.action, row.object_id or row.object_name, row.outcome) for row in rows]


def newest():
    return AuditEntry.objects.order_by("-seq").first()


# --- what is told


def test_every_change_of_a_workflow_and_its_execution_is_told(client_of, make_user):
    client = client_of(make_user("admin"))
    definition = {"name": "Nightly", "steps": [noop("a")]}
    assert client.post("/workflows", definition, "json").status_code == 201
    assert client.put("/workflows/nightly", {**definition, "description": "b"}, "json").status_code == 200
    execution = client.post("/workflows/nightly/execute", {}, "json").json()["execution_id"]
    for verb in ("pause", "resume", "signal/go", "cancel"):
        assert client.post(f"/executions/{execution}/{verb}", {}, "json").status_code == 202
    assert client.patch(f"/executions/{execution}", {"priority": 3}, "json").status_code in (200, 409)
    assert told()[:7] == [
        ("workflow.create", "nightly", "done"),
        ("workflow.update", "nightly", "done"),
        ("workflow.execute", "nightly", "done"),
        ("execution.pause", execution, "done"),
        ("execution.resume", execution, "done"),
        ("execution.signal", execution, "done"),
        ("execution.cancel", execution, "done"),
    ]
    started = AuditEntry.objects.get(action="workflow.execute")
    assert started.after == {"execution_id": execution}
    assert (started.actor_kind, started.actor_name[:5], started.address) == ("user", "admin", "127.0.0.1")
    assert started.request_id


def test_questions_and_the_engines_traffic_are_not_told(client_of, make_user, make_workflow):
    client, workflow = client_of(make_user("admin")), make_workflow([noop("a")])
    client.get("/workflows")
    client.post("/workflows/validate", {"name": "x", "steps": []}, "json")
    client.post(f"/workflows/{workflow.slug}/plan", {}, "json")
    client.post("/schedules/preview", {"cron": "@daily"}, "json")
    client.post("/progress/update", {"workflow_id": "t", "percent_complete": 3, "status": "in_progress"}, "json")
    executions.start(workflow, by=None)
    assert told() == []


def test_what_was_refused_as_wrong_leaves_no_entry(client_of, make_user):
    assert client_of(make_user("admin")).post("/workflows", {"name": "x"}, "json").status_code == 400
    assert told() == []


def test_a_403_is_told_once_a_minute_for_each_object(client_of, make_user, make_workflow):
    workflow = make_workflow([noop("a")])
    client = client_of(make_user("guest"))
    for _ in range(3):
        assert client.post(f"/workflows/{workflow.slug}/execute", {}, "json").status_code == 403
    assert client.delete(f"/workflows/{workflow.slug}").status_code == 403
    assert client.post("/workflows", {}, "json").status_code == 403
    assert told() == [
        ("workflow.execute", workflow.slug, "denied"),
        ("workflow.delete", workflow.slug, "denied"),
        ("workflow.create", "", "denied"),
    ]


def test_nobody_in_particular_cannot_fill_the_log():
    assert Client().post("/workflows", "{}", "application/json").status_code == 401
    assert told() == []


def test_logins_failed_logins_and_logouts_are_told(login):
    user, http = login("user"), Client()

    def post(path, **body):
        return http.post(path, body, "application/json")

    assert post("/auth/token", username=user.username, password="wrong").status_code == 401
    assert post("/auth/token", username="hunter2-typed-as-a-name", password="wrong").status_code == 401
    pair = post("/auth/token", username=user.username, password=PASSWORD).json()
    header = {"Authorization": f"Bearer {pair['access_token']}"}
    assert http.post("/auth/logout", headers=header).status_code == 204
    rows = list(AuditEntry.objects.order_by("seq").values_list("action", "object_name", "outcome"))
    assert rows[:3] == [
        ("auth.login", user.username, "failed"),
        ("auth.login", "(no such account)", "failed"),
        ("auth.login", user.username, "done"),
    ]
    assert told()[3][0::2] == ("auth.logout", "done")
    assert newest().actor_name == user.username
    assert "hunter2" not in json.dumps(list(AuditEntry.objects.values()), default=str)


def test_logins_by_the_page_are_told(login):
    user, http = login("admin"), Client()
    http.post("/ui/login", {"username": user.username, "password": PASSWORD})
    http.post("/ui/logout")
    assert [one[0] for one in told()] == ["auth.login", "auth.logout"]


def test_a3_the_reuse_of_a_refresh_token_is_told(login):
    user, http = login("user"), Client()
    pair = tokens.issue(user)
    for expected in (200, 401):
        given = {"refresh_token": pair.refresh_token}
        assert http.post("/auth/refresh", given, "application/json").status_code == expected
    assert told() == [("auth.refresh-reuse", str(user.pk), "denied")]


def test_a_change_of_roles_tells_before_and_after(make_user):
    user = make_user("user")
    with audit.command("test"):
        services.set_roles(user, [Role.objects.get(name="guest")], by=None)
    rights = [(row.before, row.after) for row in AuditEntry.objects.filter(action="user.roles").order_by("seq")]
    assert rights == [({"roles": ["user"]}, {"roles": []}), ({"roles": []}, {"roles": ["guest"]})]
    assert newest().action == "command.test"
    assert newest().actor_kind == "command"


def test_permissions_of_roles_and_accounts_made_disabled_and_deleted_are_told(make_user):
    with audit.command("test"):
        role = Role.objects.create(name="clerk")
        role.permissions.add(Permission.objects.get(code="workflow:read"))
        made = services.create_user("nina", password=PASSWORD, by=None, roles=[role])
        services.set_active(made, False, by=None)
        services.set_password(made, PASSWORD + "2", by=None)
        services.delete_user(made, by=None)
    words = [action for action, _, _ in told()]
    for action in (
        "role.created", "role.permissions", "user.created", "user.roles", "user.changed", "user.password-changed",
        "user.deleted",
    ):  # fmt: skip
        assert action in words
    assert AuditEntry.objects.get(action="user.changed").after == {"is_active": False}
    assert "correct horse" not in json.dumps(list(AuditEntry.objects.values()), default=str)


def test_grants_are_told(make_user, make_workflow):
    workflow, user = make_workflow([noop("a")]), make_user()
    group = Group.objects.create(name="finance")
    with audit.command("test"):
        assign_perm("workflow:read", user, workflow)
        assign_perm("workflow:execute", group, workflow)
        remove_perm("workflow:read", user, workflow)
    given, to_group = AuditEntry.objects.filter(action="grant.granted").order_by("seq")
    assert given.after == {"user": user.username, "permission": "workflow:read"}
    assert (given.object_type, given.object_id) == ("workflow", workflow.slug)
    assert to_group.after == {"group": "finance", "permission": "workflow:execute"}


def test_the_admin_site_is_told_of(login):
    root, http = login("admin"), Client()
    http.force_login(root)
    guest = Role.objects.get(name="guest")
    answer = http.post("/admin/auth/group/add/", {"name": "finance"})
    assert answer.status_code == 302
    answer = http.post(
        f"/admin/accounts/role/{guest.pk}/change/",
        {"description": "Looks", "permissions": [guest.permissions.first().pk]},
    )
    assert answer.status_code == 302
    words = [action for action, _, _ in told()]
    assert "group.created" in words
    assert "admin.add" in words
    change = AuditEntry.objects.get(action="admin.change")
    assert set(change.after["fields"]) >= {"Description"}
    assert AuditEntry.objects.get(action="role.permissions").actor_name == root.username
    assert verify().broken_at is None


def test_what_ends_with_a_role_an_account_or_a_group_is_told(make_user):
    with audit.command("test"):
        role = Role.objects.create(name="clerk")
        role.permissions.add(Permission.objects.get(code="workflow:read"))
        user, group = make_user("user"), Group.objects.create(name="finance")
        user.roles.add(role)
        user.groups.add(group)
        services.delete_role(role, by=None)
        group.delete()
        services.delete_user(user, by=None)
    ends = {row.action: row.before for row in AuditEntry.objects.filter(action__endswith=".deleted")}
    assert ends == {
        "role.deleted": {"permissions": ["workflow:read"], "accounts": [user.username]},
        "group.deleted": {"accounts": [user.username]},
        "user.deleted": {"roles": ["user"], "groups": []},
    }


def test_a_token_that_is_made_and_revoked_tells_what_it_might(login, make_workflow):
    user, http = login("user"), Client()
    workflow = make_workflow([noop("a")])
    http.defaults["HTTP_AUTHORIZATION"] = f"Bearer {tokens.issue(user).access_token}"
    scope = {"permissions": ["workflow:read"], "workflows": [workflow.slug]}
    body = {"name": "ci", "expires_in_days": 1, **scope}
    made = http.post("/auth/api-tokens", json.dumps(body), "application/json").json()
    assert http.delete(f"/auth/api-tokens/{made['id']}").status_code == 204
    rows = AuditEntry.objects.filter(action__startswith="api_token.").order_by("seq")
    assert [(row.action, row.object_id, row.before, row.after) for row in rows] == [
        ("api_token.created", made["id"], None, scope), ("api_token.revoked", made["id"], scope, None),
    ]  # fmt: skip
    assert len(told()) == 2
    assert made["token"] not in str(list(AuditEntry.objects.values()))


def test_a11_what_the_admin_refuses_is_told(login, make_user):
    """As what the API refuses is: a way up by a form, a page that is not one's own, the last admin."""
    root, http = login("admin"), Client()
    helpdesk = Role.objects.create(name="helpdesk")
    helpdesk.permissions.add(Permission.objects.get(code="system:admin"))
    me = login(None)
    me.roles.add(helpdesk)
    http.force_login(me)
    form = {"username": me.username, "email": "", "is_active": "on", "roles": [Role.objects.get(name="admin").pk]}
    for _ in range(2):
        assert http.post(f"/admin/accounts/user/{me.pk}/change/", form).status_code == 200
    assert http.post(f"/admin/accounts/user/{root.pk}/delete/", {"post": "yes"}).status_code == 403
    every = {"name": "helpdesk", "description": "", "permissions": [one.pk for one in Permission.objects.all()]}
    assert http.post(f"/admin/accounts/role/{helpdesk.pk}/change/", every).status_code == 200
    denied = [("admin.change", str(me.pk)), ("admin.delete", str(root.pk)), ("admin.change", str(helpdesk.pk))]
    assert [one[:2] for one in told(outcome="denied", actor_name=me.username)] == denied
    http.force_login(root)
    assert http.post(f"/admin/accounts/user/{root.pk}/delete/", {"post": "yes"}).status_code == 403
    alone = {"username": root.username, "email": "", "roles": [Role.objects.get(name="admin").pk]}
    assert http.post(f"/admin/accounts/user/{root.pk}/change/", alone).status_code == 200
    assert ("admin.delete", str(root.pk), "denied") in told(actor_name=root.username)
    last = AuditEntry.objects.get(action="admin.change", actor_name=root.username)
    assert (last.outcome, last.after) == ("denied", {"because": "This is the last active admin."})
    http.force_login(make_user("user"))
    assert http.get("/admin/login/?next=/admin/").status_code == 403
    assert newest().action == "admin.enter"
    assert verify().broken_at is None


def test_commands_that_change_something_are_told(tmp_path, make_user, make_workflow):
    admin = make_user("admin")
    (tmp_path / "one.yaml").write_text("name: From a file\nsteps: [{id: a, python: builtin.noop}]\n")
    apply = ("apply", str(tmp_path), "--by", admin.username)
    call_command(*apply, "--dry-run")
    assert told() == []
    call_command(*apply)
    assert told() == [("workflow.create", "from-a-file", "done"), ("command.apply", "", "done")]
    assert set(AuditEntry.objects.values_list("actor_kind", "actor_name")) == {("command", "apply")}
    (tmp_path / "one.yaml").rename(tmp_path / "two.yaml")
    (tmp_path / "two.yaml").write_text("name: Another\nsteps: [{id: a, python: builtin.noop}]\n")
    call_command(*apply, "--prune")
    assert ("workflow.delete", "from-a-file", "done") in told()
    call_command("prune", "--dry-run")
    assert newest().action == "command.apply"
    call_command("prune")
    assert newest().action == "command.prune"
    call_command("metric_labels", "--pin", "another")
    assert newest().action == "command.metric_labels"


def test_a_failing_command_is_told_as_failed(db):
    with pytest.raises(RuntimeError), audit.command("prune"):
        raise RuntimeError
    assert told() == [("command.prune", "", "failed")]


# --- the same transaction


def test_an_entry_is_undone_with_what_it_tells_of(client_of, make_user, make_workflow, monkeypatch):
    """Where the log cannot be written, the change is not made either."""
    execution = executions.start(make_workflow([noop("a")]), by=None)
    monkeypatch.setattr("apps.accounts.audit.receivers.record", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        client_of(make_user("admin")).post(f"/executions/{execution.pk}/cancel", {}, "json")
    execution.refresh_from_db()
    assert execution.status == "pending"


def test_no_workflow_is_made_or_changed_that_the_log_cannot_tell_of(client_of, make_user, make_workflow, monkeypatch):
    client, workflow = client_of(make_user("admin")), make_workflow([noop("a")])
    monkeypatch.setattr("apps.workflows.services.workflows.record", lambda *a, **k: 1 / 0)
    said = {"name": "Untold", "steps": [noop("b")]}
    for ask, path in ((client.post, "/workflows"), (client.put, f"/workflows/{workflow.slug}")):
        with pytest.raises(ZeroDivisionError):
            ask(path, said, "json")
    with pytest.raises(ZeroDivisionError):
        client.delete(f"/workflows/{workflow.slug}")
    assert list(Workflow.objects.values_list("slug", "version_number")) == [(workflow.slug, 1)]


def test_no_login_ends_untold(login, monkeypatch):
    user, http = login("user"), Client()
    http.defaults["HTTP_AUTHORIZATION"] = f"Bearer {tokens.issue(user).access_token}"
    with monkeypatch.context() as cut:
        cut.setattr("apps.accounts.audit.receivers.record", lambda *a, **k: 1 / 0)
        for path in ("/auth/logout", "/auth/logout-all"):
            with pytest.raises(ZeroDivisionError):
                http.post(path)
    assert http.get("/auth/me").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_two_writers_never_fork_the_chain():
    from concurrent.futures import ThreadPoolExecutor

    def write(number):
        try:
            for turn in range(10):
                audit.record(f"test.{number}-{turn}")
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert (verify().entries, verify().broken_at) == (40, None)
    assert AuditHead.objects.get().seq == 40


# --- append-only, and verified


def test_rows_cannot_be_changed_or_deleted_by_the_program():
    audit.record("test.one")
    row = newest()
    for attempt in (
        row.save,
        row.delete,
        AuditEntry.objects.all().delete,
        lambda: AuditEntry.objects.update(action="x"),
    ):
        with pytest.raises(TypeError, match="append-only"):
            attempt()


@pytest.mark.parametrize(
    ("sql", "broken_at", "reason"),
    [
        ("UPDATE accounts_auditentry SET action = 'test.other' WHERE seq = 2", 2, "changed"),
        ("DELETE FROM accounts_auditentry WHERE seq = 2", 2, "missing"),
        ("DELETE FROM accounts_auditentry WHERE seq = 3", 3, "last entries"),
        ("UPDATE accounts_auditentry SET outcome = 'failed' WHERE seq = 1", 1, "changed"),
        ("UPDATE accounts_audithead SET hash = 'x'", 3, "head"),
        ("DELETE FROM accounts_audithead", 1, "head"),
    ],
)
def test_the_first_broken_link_is_found(capsys, sql, broken_at, reason):
    for word in ("one", "two", "three"):
        audit.record(f"test.{word}", after={"at": word, "number": 1.5})
    call_command("audit_verify")
    assert "holds: 3 entries" in capsys.readouterr().out
    with connection.cursor() as cursor:
        cursor.execute(sql)
    with pytest.raises(CommandError, match=f"entry {broken_at}: .*{reason}"):
        call_command("audit_verify")


# --- reading it


def test_the_log_is_read_with_system_read_and_filtered(client_of, make_user):
    for number in range(5):
        audit.record(f"thing.{'make' if number % 2 else 'break'}", object_type="thing", object_id=number)
    audit.record("other.make", outcome="denied")
    client = client_of(make_user("system"))
    assert client_of(make_user("user")).get("/audit").status_code == 403

    def numbers(query):
        return [row["seq"] for row in client.get(f"/audit?{query}").json()["results"]]

    assert numbers("action=thing.") == [5, 4, 3, 2, 1]
    assert numbers("action=thing.make") == [4, 2]
    assert numbers("object=3") == [4]
    assert numbers("outcome=denied") == [6, 7] or numbers("outcome=denied") == [7, 6]
    assert numbers("until=2000-01-01T00:00:00Z") == []
    page = client.get("/audit?limit=2&action=thing.").json()
    assert [row["seq"] for row in page["results"]] == [5, 4]
    assert [row["seq"] for row in client.get(page["next"]).json()["results"]] == [3, 2]
    first = client.get("/audit?object=3").json()["results"][0]
    assert first["object"] == {"type": "thing", "id": "3", "name": ""}
    assert first["actor"] == {"kind": "system", "id": "", "name": ""}


def test_the_admins_page_of_the_log_only_reads(login):
    audit.record("test.one", object_name="<img src=x onerror=alert(1)>")
    http = Client()
    http.force_login(login("admin"))
    listed = http.get("/admin/accounts/auditentry/")
    assert listed.status_code == 200
    assert "<img src=x" not in listed.content.decode()
    seq = AuditEntry.objects.get(action="test.one").pk
    assert http.get(f"/admin/accounts/auditentry/{seq}/change/").status_code == 200
    assert http.post(f"/admin/accounts/auditentry/{seq}/change/", {"action": "x"}).status_code == 403
    assert http.post(f"/admin/accounts/auditentry/{seq}/delete/", {"post": "yes"}).status_code == 403
    assert http.get("/admin/accounts/auditentry/add/").status_code == 403


def test_the_account_may_go_and_its_entries_stay(make_user):
    user = make_user("user")
    audit.record("test.one", actor=audit.Actor.of(user))
    User.objects.filter(pk=user.pk).delete()
    assert newest().actor_name == user.username
    assert verify().broken_at is None
