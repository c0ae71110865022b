"""The one writer of accounts: who is made, changed, disabled, and what ends with it.

Rules that hold on every surface: nobody gives or takes away what they do not hold, nobody changes an account that
holds more than they do, and the last active admin stays. A change of password, roles or `is_active` ends every session
and token of the account.
"""

from collections.abc import Collection, Iterable

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction

from apps.accounts import permissions, tokens
from apps.accounts.models import Permission, Role, User
from apps.accounts.permissions import Role as RoleName
from apps.accounts.permissions import permissions_of
from apps.core.errors import Conflict, Denied, Invalid, Problem

Actor = User | None
"""Who does it; `None` is the operator at the command line, who may everything."""


@transaction.atomic
def create_user(
    username: str, *, password: str | None, by: Actor, roles: Collection[Role] = (), email: str = ""
) -> User:
    """A new account. Raises `Invalid` for a weak password or a bad name, `Conflict` for a taken one, `Denied`."""
    check_grant(roles, by=by)
    user = User(username=User.normalize_username(username), email=User.objects.normalize_email(email))
    if password is not None:
        check_password_strength(password, user)
    if User.objects.filter(username=user.username).exists():
        raise Conflict(f"The username {user.username!r} is taken.", code="username_taken")
    user.set_password(password)
    try:
        user.full_clean(exclude=["password"])
    except ValidationError as error:
        raise Invalid(
            "The account is not valid.",
            problems=[
                Problem(pointer=f"/{name}", code="invalid", message=text)
                for name, texts in error.message_dict.items()
                for text in texts
            ],
        ) from None
    user.save()
    user.roles.set(roles)
    return user


@transaction.atomic
def set_password(user: User, password: str | None, *, by: Actor) -> None:
    """A new password (`None`: none that works) and the end of every session and token."""
    if by is None or by.pk != user.pk:
        check_may_change(user, by=by)
    if password is not None:
        check_password_strength(password, user)
    user.set_password(password)
    user.save(update_fields=["password"])
    tokens.revoke_all(user)


@transaction.atomic
def set_roles(user: User, roles: Collection[Role], *, by: Actor) -> None:
    """Exactly these roles. Raises `Denied` for a role beyond the actor's own rights, `Conflict` for the last admin."""
    before = set(user.roles.all())
    after = set(roles)
    if before == after:
        return
    check_may_change(user, by=by)
    check_grant(before ^ after, by=by)
    if RoleName.ADMIN not in {role.name for role in after}:
        check_not_last_admin(user)
    user.roles.set(after)
    permissions.forget(user)
    tokens.revoke_all(user)


@transaction.atomic
def set_active(user: User, active: bool, *, by: Actor) -> None:
    """Let an account in, or shut it out at once. Raises `Denied`, or `Conflict` for the last admin."""
    if User.objects.values_list("is_active", flat=True).get(pk=user.pk) == active:
        return
    check_may_change(user, by=by)
    if not active:
        check_not_last_admin(user)
    user.is_active = active
    user.save(update_fields=["is_active"])
    permissions.forget(user)
    tokens.revoke_all(user)


@transaction.atomic
def delete_user(user: User, *, by: Actor) -> None:
    """Remove an account with its tokens. Raises `Denied`, or `Conflict` for the last admin."""
    check_may_change(user, by=by)
    check_not_last_admin(user)
    user.delete()


@transaction.atomic
def set_role_permissions(role: Role, granted: Iterable[Permission], *, by: Actor) -> None:
    """Exactly these permissions. What changes must be the actor's own; the admin role holds all and stays so."""
    after = set(granted)
    check_role_permissions(role, after, by=by)
    role.permissions.set(after)


def check_may_change(user: User, *, by: Actor) -> None:
    """Raises `Denied` where `user` holds what the actor does not: its password would be a way up."""
    if by is None:
        return
    # The account's rights as if it were active: re-enabling a stronger account is a way up as well.
    beyond = _rights(user.roles.all()) - permissions_of(by)
    if beyond or (_is_admin(user.roles.all()) and RoleName.ADMIN not in permissions.roles_of(by)):
        raise Denied("This account holds more than you do.")


def check_grant(roles: Iterable[Role], *, by: Actor) -> None:
    """Raises `Denied` for a role that holds what the actor does not."""
    if by is None:
        return
    held = permissions_of(by)
    for role in roles:
        if (role.name == RoleName.ADMIN and RoleName.ADMIN not in permissions.roles_of(by)) or _rights([role]) - held:
            raise Denied(f"You cannot give or take away the role {role.name}: it holds more than you do.")


def check_role_permissions(role: Role, after: Collection[Permission], *, by: Actor) -> None:
    """Raises `Denied` for a permission the actor does not hold, `Conflict` for the admin role."""
    before = set(role.permissions.all()) if role.pk else set()
    if role.name == RoleName.ADMIN and before != set(after):
        raise Conflict("The admin role holds every permission.", code="builtin_role")
    beyond = {p.code for p in before ^ set(after)} - (
        permissions_of(by) if by else {str(p) for p in permissions.Permission}
    )
    if beyond:
        raise Denied(f"You do not hold {', '.join(sorted(beyond))}.")


def check_not_last_admin(user: User) -> None:
    """Raises `Conflict` where nobody else would be an active admin; holds the admin role's lock in a transaction."""
    admins = User.objects.filter(is_active=True, roles__name=RoleName.ADMIN)
    if transaction.get_connection().in_atomic_block:
        # Two admins who disable each other at once wait for one another here.
        list(Role.objects.select_for_update().filter(name=RoleName.ADMIN))
    if admins.filter(pk=user.pk).exists() and not admins.exclude(pk=user.pk).exists():
        raise Conflict("This is the last active admin.", code="last_admin")


def check_password_strength(password: str, user: User | None = None) -> None:
    """Raises `Invalid` with every reason against `password`."""
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise Invalid(
            " ".join(error.messages),
            code="weak_password",
            problems=[
                Problem(pointer="/password", code=e.code or "weak_password", message=e.messages[0])
                for e in error.error_list
            ],
        ) from None


def active_admins() -> list[str]:
    """The names of those who can let others in."""
    return list(
        User.objects.filter(is_active=True, roles__name=RoleName.ADMIN)
        .order_by("username")
        .values_list("username", flat=True)
    )


def _rights(roles: Iterable[Role]) -> set[str]:
    held: set[str] = set()
    for role in roles:
        if role.name == RoleName.ADMIN:
            return {str(permission) for permission in permissions.Permission}
        held.update(permission.code for permission in role.permissions.all())
    return held


def _is_admin(roles: Iterable[Role]) -> bool:
    return any(role.name == RoleName.ADMIN for role in roles)
