"""Django under ASGI with one hop a request: middleware and a sync view run together in one thread of a pool.

Django's own handler hops to a thread for every sync part of every middleware (a dozen hops a request here), and makes
a thread, with a database connection of its own, for each request. Here a request to a sync view costs one hop, to one
that keeps its connection. Async views, static files and unknown routes go Django's way.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import django
from asgiref.sync import iscoroutinefunction
from django.core import signals
from django.core.handlers.asgi import ASGIHandler, ASGIRequest, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.http import HttpResponseBase
from django.urls import Resolver404, resolve, set_script_prefix

THREADS = 16
"""Requests to sync views that are under way at a time; others wait. Each thread keeps a database connection."""

_threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="request")

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]


def get_application() -> "Handler":
    """The ASGI application, as Django's `get_asgi_application`."""
    django.setup(set_prefix=False)
    return Handler()


class Handler(ASGIHandler):
    """Django's handler, with the short way for sync views."""

    def __init__(self) -> None:
        super().__init__()
        self._chain = BaseHandler()
        self._chain.load_middleware(is_async=False)

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if not _is_sync(scope):
            await super().handle(scope, receive, send)
            return
        body = await _body(self, receive)
        if body is None:
            return
        try:
            response: HttpResponseBase = await _in_thread(self._answer, scope, body)
            if not response.streaming:
                await self.send_response(response, send)
                return
            try:
                await self._stream(response, receive, send)
            finally:
                await _in_thread(response.close)
        finally:
            body.close()

    def _answer(self, scope: Scope, body: Any) -> HttpResponseBase:
        """The whole of a request, in this thread; what is not streamed is also ended here, where its connection is."""
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=type(self), scope=scope)
        request, refusal = self.create_request(scope, body)
        if request is None:
            assert refusal is not None  # noqa: S101  # one of the two
            response: HttpResponseBase = refusal
        else:
            assert isinstance(request, ASGIRequest)  # noqa: S101  # for the type checker
            response = self._chain.get_response(request)
        if not response.streaming:
            response.close()  # its content stays
        return response

    async def _stream(self, response: HttpResponseBase, receive: Receive, send: Any) -> None:
        """Send until the end, or until the peer has gone."""
        sending = asyncio.ensure_future(self.send_response(response, send))
        leaving = asyncio.ensure_future(receive())  # nothing but the disconnect comes after the body
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)


def _is_sync(scope: Scope) -> bool:
    """Whether a sync view answers this path."""
    try:
        path = str(scope["path"])
        return not iscoroutinefunction(resolve(path.removeprefix(scope.get("root_path") or "")).func)
    except Resolver404:
        return False


async def _body(handler: ASGIHandler, receive: Receive) -> Any:
    """The body as a file; None where the peer left before its end."""
    from django.core.exceptions import RequestAborted

    try:
        return await handler.read_body(receive)
    except RequestAborted:
        return None


async def _in_thread(function: Callable[..., Any], *given: Any) -> Any:
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_threads, context.run, function, *given)
