"""What the log hears of by itself: requests that changed something or were refused, logins, rights, grants.

Changes of rows are told only while somebody acts (a request, a command): `migrate` and the engine are nobody. A new
password is told whoever sets it: `manage.py changepassword` is Django's, and says of itself nothing.
"""

from collections.abc import Mapping
from typing import Any, cast

from django.apps import apps
from django.contrib.auth import signals as auth_signals
from django.contrib.auth.models import Group
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save
from django.http import HttpRequest
from guardian.models import BaseObjectPermission

from apps.accounts.audit.models import AuditEntry
from apps.accounts.audit.recording import Actor, actor_of, is_refusal, present_actor, record, refused
from apps.accounts.models import Role, User
from apps.core.api import viewsets
from apps.core.errors import PlatformError

Outcome = AuditEntry.Outcome
_VERBS: Mapping[str, str] = {"destroy": "delete", "partial_update": "update", "put": "update", "patch": "update"}
_NAMED: tuple[type[Model], ...] = (Role, Group)
_TOLD = ("username", "email", "is_active")
MOST_ACCOUNTS = 100  # that an entry about their role or group names


def connect() -> None:
    """Hear of everything that is told; called once, when the app is ready."""
    viewsets.changed.connect(_changed, dispatch_uid="audit.changed")
    viewsets.refused.connect(_refused, dispatch_uid="audit.refused")
    auth_signals.user_logged_in.connect(_logged_in, dispatch_uid="audit.login")
    auth_signals.user_logged_out.connect(_logged_out, dispatch_uid="audit.logout")
    auth_signals.user_login_failed.connect(_login_failed, dispatch_uid="audit.login_failed")
    pre_save.connect(_about_to_save, sender=User, dispatch_uid="audit.user_before")
    post_save.connect(_user_saved, sender=User, dispatch_uid="audit.user")
    for model in _NAMED:
        post_save.connect(_saved, sender=model, dispatch_uid=f"audit.{model.__name__}")
    for model in (*_NAMED, cast("type[Model]", User)):
        pre_delete.connect(_about_to_delete, sender=model, dispatch_uid=f"audit.{model.__name__}.goes")
        post_delete.connect(_deleted, sender=model, dispatch_uid=f"audit.{model.__name__}.deleted")
    for through in (User.roles.through, User.groups.through, Role.permissions.through):
        m2m_changed.connect(_members_changed, sender=through, dispatch_uid=f"audit.{through.__name__}")
    for grant in apps.get_models():
        if issubclass(grant, BaseObjectPermission) and grant._meta.app_label != "guardian":
            post_save.connect(_granted, sender=grant, dispatch_uid=f"audit.{grant.__name__}")
            post_delete.connect(_revoked, sender=grant, dispatch_uid=f"audit.{grant.__name__}.deleted")


# --- requests ---------------------------------------------------------------------------------------------------------


def words_of(view: Any, request: Any) -> tuple[str, str]:
    """(noun, verb) of what a request does: `("workflow", "execute")`, by the route's name and the view's action."""
    match = request.resolver_match
    name = str(getattr(match, "url_name", "") or "")
    noun, _, rest = name.partition("-")
    noun = str(getattr(view, "basename", None) or noun or "api")
    action = getattr(view, "action", None)
    verb = str(action or rest or str(request.method).lower())
    return noun.removesuffix("s"), _VERBS.get(verb, verb)


def _object_of(view: Any, response: Any) -> tuple[object, object]:
    """(id, name) of what a request was about: what its URL names, or what it made."""
    data = response.data if response is not None and isinstance(response.data, Mapping) else {}
    identity = next(iter(view.kwargs.values()), "") or data.get("id") or data.get("name") or ""
    name = data.get("name")
    return identity, name if isinstance(name, str) else ""


def _changed(*, view: Any, request: Any, response: Any, **_: Any) -> None:
    noun, verb = words_of(view, request)
    identity, name = _object_of(view, response)
    made = response.data.get("execution_id") if isinstance(response.data, Mapping) else None
    record(
        f"{noun}.{verb}",
        object_type=noun,
        object_id=identity,
        object_name=name,
        after={"execution_id": str(made)} if made else None,
    )


def _refused(*, view: Any, request: Any, error: Exception, response: Any, **_: Any) -> None:
    """A refusal for want of a right, once a minute for each caller and object; nobody in particular is not told of."""
    denied = response.status_code == 403 or is_refusal(error)
    if not denied or request is None or not _is_known(request):
        return
    noun, verb = words_of(view, request)
    identity = str(next(iter(view.kwargs.values()), ""))
    refused(f"{noun}.{verb}", by=request.user.pk, object_type=noun, object_id=identity)


def _is_known(request: Any) -> bool:
    """Whether the caller is an account: a credential that did not hold is asked for again, and refuses again."""
    try:
        return bool(request.user.is_authenticated)
    except PlatformError:
        return False


# --- logins -----------------------------------------------------------------------------------------------------------


def _logged_in(*, request: HttpRequest | None, user: Any, **_: Any) -> None:
    if request is not None and request.META:
        record("auth.login", obj=user, actor=Actor.of(user, address=actor_of(request).address))


def _logged_out(*, request: HttpRequest | None, user: Any, **_: Any) -> None:
    # Over the API the route has told already.
    if user is not None and request is not None and request.META and not request.path.startswith("/auth/"):
        record("auth.logout", obj=user, actor=Actor.of(user, address=actor_of(request).address))


def _login_failed(*, credentials: Mapping[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    """A name that no account bears is not kept: people type their password there."""
    if request is None or not request.META:
        return
    name = str(credentials.get("username", ""))
    user = User.objects.filter(username=name).first() if "\0" not in name else None
    actor = Actor(kind=AuditEntry.Kind.USER, address=actor_of(request).address)
    record(
        "auth.login",
        object_type="user",
        object_id=user.pk if user else "",
        object_name=user.username if user else "(no such account)",
        outcome=Outcome.FAILED,
        actor=actor,
    )


# --- accounts, roles, grants ------------------------------------------------------------------------------------------


def _about_to_save(*, instance: User, update_fields: Any = None, **_: Any) -> None:
    told = update_fields is None or {*_TOLD, "password"} & set(update_fields)
    acts = present_actor() is not None or getattr(instance, "_password", None) is not None
    if told and acts and not instance._state.adding:
        instance._told_before = User.objects.filter(pk=instance.pk).values(*_TOLD, "password").first()  # type: ignore[attr-defined]


def _user_saved(*, instance: User, created: bool, **_: Any) -> None:
    if present_actor() is None and "_told_before" not in instance.__dict__:
        return
    now = {name: getattr(instance, name) for name in _TOLD}
    if created:
        record("user.created", obj=instance, after=now)
        return
    was = instance.__dict__.pop("_told_before", None) or {}
    before = {name: was[name] for name in _TOLD if name in was and was[name] != now[name]}
    if before:
        record("user.changed", obj=instance, before=before, after={name: now[name] for name in before})
    if was and was["password"] != instance.password:
        record("user.password-changed", obj=instance)


def _saved(*, instance: Model, created: bool, **_: Any) -> None:
    if present_actor() is not None:
        record(f"{instance._meta.model_name}.{'created' if created else 'changed'}", obj=instance)


def _about_to_delete(*, instance: Model, **_: Any) -> None:
    """Rights end with an account, a role or a group: which, and whose."""
    if present_actor() is not None:
        instance._told_rights = _rights_in(instance)  # type: ignore[attr-defined]


def _deleted(*, instance: Model, **_: Any) -> None:
    if present_actor() is not None:
        record(f"{instance._meta.model_name}.deleted", obj=instance, before=instance.__dict__.pop("_told_rights", None))


def _rights_in(instance: Model) -> dict[str, list[str]]:
    match instance:
        case User():
            return {"roles": _names(instance, "roles"), "groups": _names(instance, "groups")}
        case Role():
            accounts = instance.users.order_by("username").values_list("username", flat=True)
            return {"permissions": _names(instance, "permissions"), "accounts": list(accounts[:MOST_ACCOUNTS])}
    accounts = User.objects.filter(groups=instance.pk).order_by("username").values_list("username", flat=True)
    return {"accounts": list(accounts[:MOST_ACCOUNTS])}


def _members_changed(*, sender: Any, instance: Model, action: str, reverse: bool, pk_set: Any, **_: Any) -> None:
    """Roles or groups of a user, permissions of a role: before and after, by name."""
    if present_actor() is None:
        return
    field = next(
        one for one in (*User._meta.many_to_many, *Role._meta.many_to_many) if one.remote_field.through is sender
    )
    if reverse:  # role.users.add(…): rights of many were changed by one call
        if action in ("post_add", "post_remove", "post_clear"):
            record(
                f"{instance._meta.model_name}.{field.name}-{action[5:]}",
                obj=instance,
                after={"changed": len(pk_set or ())},
            )
        return
    if action == "pre_clear":
        instance._told_members = _names(instance, field.name)  # type: ignore[attr-defined]
    elif action == "post_clear":
        before = instance.__dict__.pop("_told_members", [])
        _told(instance, field.name, before, [])
    elif action in ("post_add", "post_remove") and pk_set:
        after = _names(instance, field.name)
        moved = sorted(str(one) for one in field.related_model._default_manager.filter(pk__in=pk_set))
        before = [one for one in after if one not in moved] if action == "post_add" else sorted({*after, *moved})
        _told(instance, field.name, before, after)


def _names(instance: Model, field: str) -> list[str]:
    return sorted(str(one) for one in getattr(instance, field).all())


def _told(instance: Model, field: str, before: list[str], after: list[str]) -> None:
    record(f"{instance._meta.model_name}.{field}", obj=instance, before={field: before}, after={field: after})


def _granted(*, instance: Any, created: bool, **_: Any) -> None:
    if created and present_actor() is not None:
        _grant("granted", instance, after=_grant_words(instance))


def _revoked(*, instance: Any, **_: Any) -> None:
    if present_actor() is not None:
        _grant("revoked", instance, before=_grant_words(instance))


def _grant(verb: str, instance: Any, **values: Any) -> None:
    target = instance.content_object
    noun = str(target._meta.model_name)
    record(
        f"grant.{verb}", object_type=noun, object_id=getattr(target, "slug", target.pk), object_name=target, **values
    )


def _grant_words(instance: Any) -> dict[str, str]:
    to = next(kind for kind in ("user", "group", "role") if hasattr(instance, kind))
    return {to: str(getattr(instance, to)), "permission": instance.permission.codename}
