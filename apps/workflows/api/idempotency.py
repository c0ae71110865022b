"""The header `Idempotency-Key`: a changing request is carried out once, and repeated to who asks again.

Keys are an account's; those of its API tokens are each token's own, because a token may less than its owner. What was
answered is repeated to nobody who may no longer see the row that it was about.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.models import User
from apps.accounts.permissions import scope_of
from apps.core.api.renderers import JSONRenderer
from apps.core.errors import NotFound
from apps.core.sealing import seal, unseal
from apps.workflows.services.requests import digest_of, once

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})

Handler = Callable[..., Response]


class _Refused(Exception):
    """An answer that is an error: the transaction of the request is undone, and nothing of it kept."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class Idempotent(APIView):
    """Of a view whose changing requests may carry the header. An error is never kept: the key is free again."""

    takes_idempotency_key = True  # for the OpenAPI document

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Once the caller is let in, put the handler of this request inside `once`."""
        super().initial(request, *args, **kwargs)
        key = request.headers.get(HEADER)
        name = str(request.method).lower()
        # Callers without an account change nothing anywhere, so there is nothing to be done once.
        if key is None or request.method not in CHANGING or not isinstance(request.user, User):
            return
        if (handler := getattr(self, name, None)) is not None:
            setattr(self, name, _within(self, handler, request.user, key))


def _within(view: APIView, handler: Handler, user: User, key: str) -> Handler:
    def handle(request: Request, *args: Any, **kwargs: Any) -> Response:
        fresh: list[Response] = []

        def act() -> dict[str, Any]:
            response = handler(request, *args, **kwargs)
            if response.status_code >= 400:
                raise _Refused(response)
            fresh.append(response)
            return _kept(response)

        digest = digest_of(str(request.method), request.get_full_path(), request.data)
        try:
            answer = once(user, _of_whom(user, key), digest, act)
        except _Refused as refused:
            return refused.response
        if fresh:
            return fresh[0]
        _look_again(view)
        return _replayed(answer)

    return handle


def _of_whom(user: User, key: str) -> str:
    """The key as it is kept; one that is none stays so, and is refused."""
    scope = scope_of(user)
    if scope is None or not key:
        return key
    return hashlib.sha256(f"{scope.token_id}:{key}".encode()).hexdigest() if key.isascii() else key


def _look_again(view: APIView) -> None:
    """Raises `NotFound` where the row that the route names is there, and not for this caller."""
    name = getattr(view, "lookup_url_kwarg", None) or getattr(view, "lookup_field", "")
    if name not in view.kwargs or not hasattr(view, "get_queryset"):
        return
    rows = view.get_queryset()
    this = {view.lookup_field: view.kwargs[name]}  # type: ignore[attr-defined]  # of DRF's generic views
    if rows.model._default_manager.filter(**this).exists() and not rows.filter(**this).exists():
        raise NotFound("there is no such thing, or you may not know of it")


def _kept(response: Response) -> dict[str, Any]:
    """What is needed to give the answer again. Its body is sealed: some answers tell a secret, this once."""
    body = None if response.data is None else seal(JSONRenderer().render(response.data).decode())
    return {"status": response.status_code, "body": body, "location": response.headers.get("Location")}


def _replayed(answer: dict[str, Any]) -> Response:
    headers = {REPLAYED: "true"}
    if answer["location"] is not None:
        headers["Location"] = answer["location"]
    body = None if answer["body"] is None else json.loads(unseal(answer["body"]))
    return Response(body, status=answer["status"], headers=headers)
