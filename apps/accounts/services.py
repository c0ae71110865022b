"""The one writer of accounts: who is made, changed, disabled, and what ends with it.

Rules that hold on every surface: nobody gives or takes away what they do not hold, nobody changes an account that
holds more than they do, and the last active admin stays. A change of password, roles or `is_active` ends every session
and token of the account.
"""

from collections.abc import Collection, Iterable

from django.contrib.auth.models import Group
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction

from apps.accounts import api_tokens, permissions, tokens
from apps.accounts.grants import is_shared_with
from apps.accounts.models import Permission, Role, User
from apps.accounts.permissions import Role as RoleName
from apps.accounts.permissions import permissions_of, require_person
from apps.accounts.single_things import held_on_single_things
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
    _check_fields(user, "The account is not valid.", exclude=["password"])
    user.save()
    user.roles.set(roles)
    return user


@transaction.atomic
def set_password(user: User, password: str | None, *, by: Actor) -> None:
    """A new password (`None`: none that works) and the end of every session and token; API tokens stay."""
    require_person(by)
    if by is None or by.pk != user.pk:
        check_may_open(user, by=by)
    if password is not None:
        check_password_strength(password, user)
    user.set_password(password)
    user.save(update_fields=["password"])
    tokens.revoke_all(user)


def change_password(user: User, *, current: str, new: str) -> None:
    """One's own password. Raises `Invalid` for a wrong `current` or a weak `new`."""
    require_person(user)
    check_own_password(user, current)
    set_password(user, new, by=user)


def check_own_password(user: User, current: str) -> None:
    """Raises `Invalid` for a wrong present password."""
    if not user.check_password(current):
        message = "this is not your present password"
        raise Invalid(
            f"current_password: {message}.",
            code="wrong_password",
            problems=[Problem(pointer="/current_password", code="wrong_password", message=message)],
        )


@transaction.atomic
def change_user(
    user: User, *, roles: Collection[Role] | None, is_active: bool | None, email: str | None, by: Actor
) -> None:
    """What is given of these, all or nothing; what is `None` stays. Raises as the single changes do."""
    check_may_change(user, by=by)
    if email is not None:
        set_email(user, email, by=by)
    if roles is not None:
        set_roles(user, roles, by=by)
    if is_active is not None:
        set_active(user, is_active, by=by)


@transaction.atomic
def set_email(user: User, email: str, *, by: Actor) -> None:
    """Another address. Raises `Denied`, or `Invalid` for what is none."""
    check_may_change(user, by=by)
    user.email = User.objects.normalize_email(email)
    _check_fields(user, "The address is not valid.", exclude=["password", "username"])
    user.save(update_fields=["email"])


@transaction.atomic
def set_roles(user: User, roles: Collection[Role], *, by: Actor) -> None:
    """Exactly these roles. Raises `Denied` for a role beyond the actor's own rights, `Conflict` for the last admin."""
    _one_at_a_time()
    before = set(_roles_of(user))
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
    """Let an account in, or shut it out at once, its API tokens for good.

    Raises `Denied`, or `Conflict` for the last admin.
    """
    _one_at_a_time()
    if User.objects.values_list("is_active", flat=True).get(pk=user.pk) == active:
        return
    check_may_open(user, by=by) if active else check_may_change(user, by=by)
    if not active:
        check_not_last_admin(user)
    user.is_active = active
    user.save(update_fields=["is_active"])
    permissions.forget(user)
    tokens.revoke_all(user)
    if not active:
        api_tokens.revoke_all([user])


@transaction.atomic
def delete_user(user: User, *, by: Actor) -> None:
    """Remove an account with its tokens. Raises `Denied`, or `Conflict` for the last admin."""
    _one_at_a_time()
    check_may_change(user, by=by)
    check_not_last_admin(user)
    user.delete()


@transaction.atomic
def set_role_permissions(role: Role, granted: Iterable[Permission], *, by: Actor) -> None:
    """Exactly these permissions. What changes must be the actor's own; the admin role holds all and stays so."""
    after = set(granted)
    check_role_permissions(role, after, by=by)
    role.permissions.set(after)


@transaction.atomic
def create_role(name: str, *, description: str, granted: Collection[Permission], by: Actor) -> Role:
    """A role of the installation's own. Raises `Conflict` for a taken name, `Denied` for a permission one lacks."""
    role = Role(name=name, description=description)
    check_role_permissions(role, granted, by=by)
    if Role.objects.filter(name=name).exists():
        raise Conflict(f"The role {name!r} exists.", code="role_exists")
    _check_fields(role, "The role is not valid.")
    role.save()
    role.permissions.set(granted)
    return role


@transaction.atomic
def delete_role(role: Role, *, by: Actor) -> None:
    """Take it from everybody, whose sessions end, and remove it.

    Raises `Conflict` for the roles of every installation, `Denied` for one that holds more than the actor.
    """
    if role.name in set(RoleName):
        raise Conflict(f"The role {role.name} belongs to every installation.", code="builtin_role")
    check_grant([role], by=by)
    for user in role.users.all():
        check_may_change(user, by=by)
        tokens.revoke_all(user)
    role.delete()


def check_may_change(user: User, *, by: Actor) -> None:
    """Raises `Denied` where `user` holds what the actor does not: its password would be a way up."""
    if by is None:
        return
    require_person(by)
    # The account's rights as if it were active: re-enabling a stronger account is a way up as well.
    roles = _roles_of(user)
    beyond = _rights(roles) - permissions_of(by)
    if beyond or (_is_admin(roles) and RoleName.ADMIN not in permissions.roles_of(by)):
        raise Denied("This account holds more than you do.")


def check_may_open(user: User, *, by: Actor) -> None:
    """As `check_may_change`, for what would let the actor in as `user`: rights on single things count as well."""
    check_may_change(user, by=by)
    if by is None or by.pk == user.pk:
        return
    if beyond := held_on_single_things(user, apart_from=by) - permissions_of(by):
        raise Denied(
            f"This account has things, or was granted some, of which you do not hold {', '.join(sorted(beyond))}."
        )


def check_grant(roles: Iterable[Role], *, by: Actor) -> None:
    """Raises `Denied` for a role that holds, or with which was shared, what the actor does not."""
    if by is None:
        return
    require_person(by)
    held = permissions_of(by)
    for role in roles:
        if (role.name == RoleName.ADMIN and RoleName.ADMIN not in permissions.roles_of(by)) or _rights([role]) - held:
            raise Denied(f"You cannot give or take away the role {role.name}: it holds more than you do.")
        if RoleName.ADMIN not in permissions.roles_of(by) and not _has(by, role) and is_shared_with(role):
            raise Denied(f"You cannot give or take away the role {role.name}: what was shared with it is not yours.")


def check_groups(groups: Iterable[Group], *, by: Actor) -> None:
    """Raises `Denied` for a group the actor is no member of: what was shared with it would be a way up."""
    if by is None:
        return
    require_person(by)
    own = set(by.groups.all())
    for group in groups:
        if RoleName.ADMIN not in permissions.roles_of(by) and group not in own:
            raise Denied(f"You cannot give or take away the group {group.name}: you are no member of it.")


def check_role_permissions(role: Role, after: Collection[Permission], *, by: Actor) -> None:
    """Raises `Denied` for a permission the actor does not hold, `Conflict` for the admin role."""
    if by is not None:
        require_person(by)
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
        _one_at_a_time()
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


def _one_at_a_time() -> None:
    """Two admins who disable each other at once wait for one another here, until the end of the transaction."""
    list(Role.objects.select_for_update().filter(name=RoleName.ADMIN))


def _check_fields(row: User | Role, message: str, *, exclude: Collection[str] = ()) -> None:
    """Raises `Invalid` with every field that its model refuses."""
    try:
        row.full_clean(exclude=exclude)
    except ValidationError as error:
        raise Invalid(
            message,
            problems=[
                Problem(pointer=f"/{name}", code="invalid", message=text)
                for name, texts in error.message_dict.items()
                for text in texts
            ],
        ) from None


def _roles_of(user: User) -> list[Role]:
    """Read now, whatever the object in hand has fetched before."""
    return list(Role.objects.filter(users=user.pk).prefetch_related("permissions"))


def _rights(roles: Iterable[Role]) -> set[str]:
    held: set[str] = set()
    for role in roles:
        if role.name == RoleName.ADMIN:
            return {str(permission) for permission in permissions.Permission}
        held.update(permission.code for permission in role.permissions.all())
    return held


def _has(user: User, role: Role) -> bool:
    return role.pk is not None and user.roles.filter(pk=role.pk).exists()


def _is_admin(roles: Iterable[Role]) -> bool:
    return any(role.name == RoleName.ADMIN for role in roles)
