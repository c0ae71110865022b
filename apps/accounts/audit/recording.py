"""Writes entries. The chain's head is locked from an entry to the end of its transaction, so record last.

Who acts is read from the request being answered, or from the command being run; where there is neither it is the
platform itself.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, models, transaction
from django.http import HttpRequest
from redis.exceptions import RedisError

from apps.accounts.audit.chain import START, hash_of
from apps.accounts.audit.models import AuditEntry, AuditHead
from apps.accounts.audit.redact import redacted, text
from apps.core.clock import database_now
from apps.core.errors import Conflict, Denied
from apps.core.logs import current_request, request_id

Kind, Outcome = AuditEntry.Kind, AuditEntry.Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who does it, in the words of the log."""

    kind: str
    id: str = ""
    name: str = ""
    address: str = ""

    @classmethod
    def of(cls, user: Any, *, address: str = "", token: bool = False) -> "Actor":
        """The account `user`; nobody in particular where it is none."""
        if user is None or not user.is_authenticated:
            return cls(kind=Kind.USER, address=address)
        kind = Kind.API_TOKEN if token else Kind.USER
        return cls(kind=kind, id=str(user.pk), name=user.get_username(), address=address)


_acting: ContextVar[Actor | None] = ContextVar("audit_actor", default=None)
_gathering: ContextVar[list[AuditEntry] | None] = ContextVar("audit_gathering", default=None)


def present_actor() -> Actor | None:
    """Who acts now: the caller of the request being answered, or the command being run."""
    if acting := _acting.get():
        return acting
    request = current_request.get()
    return None if request is None else actor_of(request)


def actor_of(request: HttpRequest) -> Actor:
    """The caller of `request`, as far as it is known by now."""
    from apps.accounts.ratelimit import client_address  # it imports the models, which import this package
    from apps.accounts.tokens import Claims

    auth = getattr(request, "auth", None)
    token = auth is not None and not isinstance(auth, Claims)
    return Actor.of(getattr(request, "user", None), address=client_address(request), token=token)


def record(
    action: str,
    *,
    obj: models.Model | None = None,
    object_type: str = "",
    object_id: object = "",
    object_name: object = "",
    outcome: str = Outcome.DONE,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    actor: Actor | None = None,
) -> None:
    """One entry, in the caller's transaction where there is one. Call it last in it: the head stays locked till then.

    `obj` names the object, or the three words do. `before` and `after` are for rights and names: both pass the
    redactor, and bodies have no business here.
    """
    actor = actor or present_actor() or Actor(kind=Kind.SYSTEM)
    if obj is not None:
        object_type = object_type or str(obj._meta.model_name)
        object_id, object_name = object_id or obj.pk, object_name or str(obj)
    entry = AuditEntry(
        actor_kind=actor.kind,
        actor_id=text(actor.id, 64),
        actor_name=text(actor.name),
        address=text(actor.address, 45),
        request_id=text(request_id.get(), 64),
        action=text(action, 100),
        object_type=text(object_type, 50),
        object_id=text(object_id, 100),
        object_name=text(object_name),
        outcome=outcome,
        before=None if before is None else redacted(before),
        after=None if after is None else redacted(after),
    )
    gathering = _gathering.get()
    if gathering is None:
        _append([entry])
    else:
        gathering.append(entry)


def seldom(key: str, seconds: int = 60) -> bool:
    """Whether nothing with this key was told for so long: what a caller may repeat at will is told once a minute."""
    # As a digest: what a caller sent is no key for every cache.
    try:
        return bool(cache.add(f"audit:{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()}", 1, seconds))
    except RedisError:
        return True  # rather told twice than not at all


def is_refusal(error: BaseException) -> bool:
    """Whether an error is for want of a right, or of somebody or something that has to stay."""
    lasting = isinstance(error, Conflict) and error.code in ("last_admin", "builtin_role")
    return lasting or isinstance(error, Denied | PermissionDenied)


def refused(action: str, *, by: object, object_type: str = "", object_id: object = "", because: str = "") -> None:
    """What `by` was refused for want of a right, once a minute for each action and object."""
    if seldom(f"{by}:{action}:{str(object_id)[:100]!a}:{because}"):
        after = {"because": because} if because else None
        record(action, object_type=object_type, object_id=object_id, outcome=Outcome.DENIED, after=after)


@contextlib.contextmanager
def gathered() -> Iterator[None]:
    """Keep the entries of this block for its end; for transactions that lock more rows after what they record.

    Otherwise two of them, each with the head or with what the other waits for, could stop each other.
    """
    entries: list[AuditEntry] = []
    token = _gathering.set(entries)
    try:
        yield
    finally:
        _gathering.reset(token)
    if entries:
        _append(entries)


@contextlib.contextmanager
def command(name: str) -> Iterator[None]:
    """The operator's command `name` acts; told at its end, as `failed` where it raises."""
    token = _acting.set(Actor(kind=Kind.COMMAND, name=name))
    try:
        yield
    except BaseException:
        record(f"command.{name}", outcome=Outcome.FAILED)
        raise
    else:
        record(f"command.{name}")
    finally:
        _acting.reset(token)


def _append(entries: list[AuditEntry]) -> None:
    with transaction.atomic():
        head = _locked_head()
        now = database_now()
        for entry in entries:
            entry.seq, entry.previous, entry.at = head.seq + 1, head.hash, now
            entry.hash = hash_of(entry)
            head.seq, head.hash = entry.seq, entry.hash
        AuditEntry.objects.bulk_create(entries)
        AuditHead.objects.filter(pk=head.pk).update(seq=head.seq, hash=head.hash)


def _locked_head() -> AuditHead:
    """The head, locked until the transaction ends; made where there is none yet."""
    locked = AuditHead.objects.select_for_update().filter(pk=1)
    if head := locked.first():
        return head
    with contextlib.suppress(IntegrityError), transaction.atomic():
        AuditHead.objects.create(pk=1, seq=0, hash=START)
    return locked.get()
