"""The sockets by path. What is no path of ours is refused in the handshake (unrouted it would be a 500)."""

from typing import Any

from channels.routing import URLRouter
from django.urls import path, re_path

from apps.progress.consumers import ProgressConsumer


async def refuse(_scope: Any, receive: Any, send: Any) -> None:
    """Close before accepting: HTTP 403 to the handshake."""
    await receive()
    await send({"type": "websocket.close"})


_routes: list[Any] = [
    path("progress/ws", ProgressConsumer.as_asgi()),  # type: ignore[no-untyped-call]
    re_path(r"", refuse),  # type: ignore[arg-type]  # an ASGI application, not a view
]
websocket = URLRouter(_routes)
"""The ASGI application for sockets. It reads sessions itself: a cookie counts here only beside an allowed Origin."""
