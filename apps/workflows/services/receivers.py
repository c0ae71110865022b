"""Receivers of notifications: made, changed, removed. Their targets and secrets are stored sealed."""

from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction

from apps.accounts.models import User
from apps.core.clock import database_now
from apps.core.errors import Conflict, Invalid, Problem
from apps.core.sealing import seal
from apps.core.signatures import is_secret, new_secret
from apps.workflows.models import Receiver

MAX_TARGET = 2000  # characters


def create(*, name: str, kind: str, target: str, secret: str | None, by: User) -> tuple[Receiver, str | None]:
    """A receiver, and its secret where one was generated: a webhook's that was not given one.

    Raises `Invalid` with every problem, `Conflict` ("name_taken").
    """
    _check(kind, target, secret)
    generated = new_secret() if kind == Receiver.Kind.WEBHOOK and secret is None else None
    kept, now = secret or generated, database_now()
    try:
        with transaction.atomic():
            made = Receiver.objects.create(
                name=name,
                kind=kind,
                target=seal(target),
                secret=seal(kept) if kept else "",
                owner=by,
                created_at=now,
                updated_at=now,
            )
    except IntegrityError:
        raise Conflict(f"there is a receiver `{name}` already; choose another name", code="name_taken") from None
    return made, generated


def update(
    receiver: Receiver, *, kind: str | None = None, target: str | None = None, secret: str | None = None
) -> tuple[Receiver, str | None]:
    """Change what is given; what is owed to it goes to the new target from now on.

    Gives the secret where one had to be generated. Raises `Invalid` with every problem: another kind needs a target.
    """
    new_kind = kind or receiver.kind
    if new_kind != receiver.kind and target is None:
        problem = Problem(pointer="/target", code="required", message="another kind needs a target of its own")
        raise Invalid(f"target: {problem.message}.", problems=[problem])
    _check(new_kind, target, secret)
    sealed, generated = receiver.secret, None
    if new_kind != Receiver.Kind.WEBHOOK:
        sealed = ""
    elif secret is not None or not sealed:
        generated = new_secret() if secret is None else None
        sealed = seal(secret or generated or "")
    changes = {"target": seal(target)} if target is not None else {}
    Receiver.objects.filter(pk=receiver.pk).update(kind=new_kind, secret=sealed, updated_at=database_now(), **changes)
    receiver.refresh_from_db()
    return receiver, generated


def delete(receiver: Receiver) -> None:
    """Remove it. What is still owed to its name is tried until it is given up, or there is such a receiver again."""
    Receiver.objects.filter(pk=receiver.pk).delete()


def _check(kind: str, target: str | None, secret: str | None) -> None:
    problems = []
    if target is not None and (wrong := _target_problem(kind, target)):
        problems.append(Problem(pointer="/target", code="invalid", message=wrong))
    if secret is not None and kind != Receiver.Kind.WEBHOOK:
        message = f"a receiver of kind {kind} signs nothing; leave the secret out"
        problems.append(Problem(pointer="/secret", code="not_used", message=message))
    elif secret is not None and not is_secret(secret):
        message = "give `whsec_` and the base64 of 24 to 64 random bytes, or leave it out to have one made"
        problems.append(Problem(pointer="/secret", code="invalid", message=message))
    if problems:
        raise Invalid("The receiver is not valid; `errors` lists every mistake.", problems=problems)


def _target_problem(kind: str, target: str) -> str | None:
    if len(target) > MAX_TARGET:
        return f"at most {MAX_TARGET:,} characters"
    if kind == Receiver.Kind.MAIL:
        try:
            validate_email(target)
        except ValidationError:
            return "give one mail address"
        return None
    return None if _is_web_address(target) else "give a URL that begins with https:// or http://, without a password"


def _is_web_address(target: str) -> bool:
    if not target.isascii() or not target.isprintable() or set(target) & set(' "<>\\^`{|}'):
        return False
    try:
        parts = urlsplit(target)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc and port != 0
