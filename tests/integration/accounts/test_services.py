"""The rules of accounts: nobody gives what they lack, the last admin stays, weak passwords are refused."""

import io

import pytest
from django.contrib.auth import authenticate
from django.core.management import CommandError, call_command

from apps.accounts import services, tokens
from apps.accounts.audit.models import AuditEntry
from apps.accounts.models import Permission, Role, User
from apps.core.errors import Conflict, Denied, Invalid, Unauthenticated
from tests.integration.accounts.conftest import PASSWORD

pytestmark = pytest.mark.django_db


@pytest.fixture
def helpdesk(make_user):
    """An account that administers accounts and holds little else."""
    role = Role.objects.create(name="helpdesk")
    role.permissions.set(Permission.objects.filter(code__in=["system:admin", "workflow:read"]))
    return make_user("helpdesk", "helpdesk")


def role(name):
    return Role.objects.get(name=name)


@pytest.mark.parametrize("name", ["admin", "user", "guest"])
def test_a11_nobody_gives_a_role_that_holds_more(make_user, helpdesk, name):
    ann = make_user("ann")
    with pytest.raises(Denied):
        services.set_roles(ann, [role(name)], by=helpdesk)
    with pytest.raises(Denied):
        services.create_user("eve", password=PASSWORD, by=helpdesk, roles=[role(name)])
    assert not ann.roles.exists()
    assert not User.objects.filter(username="eve").exists()


def test_a11_what_one_holds_one_may_give(make_user, helpdesk):
    ann = make_user("ann")
    services.set_roles(ann, [role("helpdesk")], by=helpdesk)
    assert [r.name for r in ann.roles.all()] == ["helpdesk"]


@pytest.mark.parametrize(
    "change",
    [
        lambda user, by: services.set_password(user, "another good password", by=by),
        lambda user, by: services.set_active(user, False, by=by),
        lambda user, by: services.set_roles(user, [], by=by),
        lambda user, by: services.delete_user(user, by=by),
    ],
    ids=["password", "disable", "roles", "delete"],
)
def test_a11_nobody_changes_an_account_that_holds_more(make_user, helpdesk, change):
    make_user("other", "admin")
    root = make_user("root", "admin")
    with pytest.raises(Denied):
        change(root, helpdesk)
    root.refresh_from_db()
    assert root.is_active
    assert root.check_password(PASSWORD)


def test_a4_the_command_for_passwords_ends_tokens(make_user, monkeypatch):
    ann = make_user("ann", "user")
    pair = tokens.issue(ann)
    ask = "django.contrib.auth.management.commands.changepassword.getpass.getpass"
    monkeypatch.setattr(ask, lambda **_: "another good password")
    call_command("changepassword", "ann")
    with pytest.raises(Unauthenticated):
        tokens.authenticate_access_token(pair.access_token)
    with pytest.raises(Unauthenticated):
        tokens.rotate(pair.refresh_token)
    ann.refresh_from_db()
    assert tokens.authenticate_access_token(tokens.issue(ann).access_token) == ann
    entry = AuditEntry.objects.get(action="user.password-changed")
    assert (entry.actor_kind, entry.object_name) == ("system", "ann")


def test_djangos_command_for_an_admin_is_told_in_the_audit_log():
    call_command("createsuperuser", "--noinput", "--username", "rescue", "--email", "rescue@example.com")
    assert User.objects.get(username="rescue").is_staff
    told = AuditEntry.objects.filter(actor_kind="command", actor_name="createsuperuser").order_by("seq")
    assert [one.action for one in told] == ["user.created", "user.roles", "command.createsuperuser"]


def test_a11_nor_revives_one(make_user, helpdesk):
    with pytest.raises(Denied):
        services.set_active(make_user("old", "admin", is_active=False), True, by=helpdesk)


def test_a11_nobody_puts_into_a_role_what_they_lack(helpdesk):
    with pytest.raises(Denied):
        services.set_role_permissions(role("helpdesk"), Permission.objects.all(), by=helpdesk)
    with pytest.raises(Denied):
        services.set_role_permissions(role("guest"), [], by=helpdesk)


def test_the_admin_role_stays_whole(make_user):
    root = make_user("root", "admin")
    with pytest.raises(Conflict):
        services.set_role_permissions(role("admin"), [], by=root)


@pytest.mark.parametrize(
    "change",
    [
        lambda root: services.set_active(root, False, by=root),
        lambda root: services.set_roles(root, [], by=root),
        lambda root: services.delete_user(root, by=root),
    ],
    ids=["disable", "demote", "delete"],
)
def test_a11_the_last_active_admin_stays(make_user, change):
    root = make_user("root", "admin")
    make_user("off", "admin", is_active=False)
    with pytest.raises(Conflict) as refused:
        change(root)
    assert refused.value.code == "last_admin"
    make_user("second", "admin")
    change(root)


@pytest.mark.parametrize("password", ["short", "password123", "12345", "ann-marie-ann"])
def test_weak_passwords_are_refused(make_user, password):
    user = make_user("ann-marie-ann")
    with pytest.raises(Invalid) as refused:
        services.set_password(user, password, by=None)
    assert refused.value.problems[0].pointer == "/password"


def test_a_taken_or_impossible_name_is_refused(make_user):
    make_user("ann")
    with pytest.raises(Conflict):
        services.create_user("ann", password=PASSWORD, by=None)
    for name in ("", "a b", "x\u202ey", "a\nb", "n" * 151):
        with pytest.raises(Invalid):
            services.create_user(name, password=PASSWORD, by=None)


def test_nothing_changed_ends_no_session(make_user):
    user = make_user("ann", "guest")
    services.set_roles(user, [role("guest")], by=None)
    services.set_active(user, True, by=None)
    user.refresh_from_db()
    assert user.token_version == 0


# --- manage.py create_admin


def create_admin(*args):
    out = io.StringIO()
    call_command("create_admin", *args, stdout=out)
    return out.getvalue().splitlines()


def test_a1_there_is_no_default_password():
    assert not User.objects.exists()
    assert authenticate(None, username="admin", password="admin") is None


def test_a1_the_first_admin_gets_a_generated_password_printed_once():
    last = create_admin()[-1]
    assert last.startswith("admin password: ")
    user = authenticate(None, username="admin", password=last.removeprefix("admin password: "))
    assert user is not None
    assert user.is_staff
    again = create_admin()
    assert again == ["an active admin exists: admin"]


def test_a1_a_given_password_is_used_once_and_never_printed(set_env):
    set_env(ADMIN_PASSWORD=PASSWORD)
    lines = create_admin()
    assert not any("password" in line for line in lines)
    assert authenticate(None, username="admin", password=PASSWORD)
    set_env(ADMIN_PASSWORD="another good password")
    create_admin()
    assert authenticate(None, username="admin", password=PASSWORD)


@pytest.mark.parametrize("password", ["admin", "password", "short", "1234567890"])
def test_a1_a_weak_given_password_is_one_clear_line(set_env, password):
    set_env(ADMIN_PASSWORD=password)
    with pytest.raises(CommandError) as refused:
        create_admin()
    assert str(refused.value).startswith("ADMIN_PASSWORD: ")
    assert "\n" not in str(refused.value)
    assert not User.objects.exists()


def test_a_disabled_admin_is_not_revived_by_the_command(make_user):
    make_user("admin", "admin", is_active=False)
    with pytest.raises(CommandError):
        create_admin()
    assert create_admin("--username", "rescue")[-1].startswith("rescue password: ")
