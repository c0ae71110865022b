"""Requests that are carried out once, by the key their sender gives them (`Idempotency-Key`)."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils.crypto import salted_hmac

from apps.accounts.models import User
from apps.core.clock import database_now
from apps.core.errors import Invalid, Problem, Unprocessable
from apps.workflows.models import IdempotencyKey

MAX_KEY = 200
KEPT = timedelta(hours=24)  # at least so long; `retention` forgets older ones


def digest_of(method: str, path: str, body: Any) -> str:
    """A digest of a request in one canonical form; `body` is the parsed JSON value.

    Keyed, so that what a request said (the value of a secret) cannot be guessed from the row.
    """
    text = json.dumps([method, path, body], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return salted_hmac("idempotency", text, algorithm="sha256").hexdigest()


def once(user: User, key: str, digest: str, act: Callable[[], Any]) -> Any:
    """The answer of `act` (a JSON value), which is called at most once for each key of a user.

    The key is kept in the transaction of the act: either both are durable or neither is. A second request with the
    same key waits for the first and gets its answer. Raises `Invalid` for a key that is none, `Unprocessable`
    ("idempotency_key_reused") for the same key with another request.
    """
    if not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
        message = f"must be 1 to {MAX_KEY} printable ASCII characters"
        raise Invalid(
            f"The header Idempotency-Key {message}.",
            problems=[Problem(pointer="", code="invalid_idempotency_key", message=f"Idempotency-Key {message}")],
        )
    with transaction.atomic():
        try:
            with transaction.atomic():
                IdempotencyKey.objects.create(user=user, key=key, digest=digest, answer={}, created_at=database_now())
        except IntegrityError:
            kept = IdempotencyKey.objects.filter(user=user, key=key).first()
        else:
            answer = act()
            IdempotencyKey.objects.filter(user=user, key=key).update(answer=answer)
            return answer
    if kept is None:  # it was pruned between the two looks
        return once(user, key, digest, act)
    if kept.digest != digest:
        raise Unprocessable(
            "This Idempotency-Key already stands for another request; choose a new key.", code="idempotency_key_reused"
        )
    return kept.answer
