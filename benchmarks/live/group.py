"""Channels as its tutorial has it: every socket joins a group, an event is a `group_send`. In-memory layer.

An ASGI application for daphne. Whoever sends `COUNT` on /burst makes it send so many frames to the group.
"""

from typing import Any

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="bench",  # noqa: S106
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
)
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402

from benchmarks.live.burst import frames  # noqa: E402


class Watcher(AsyncWebsocketConsumer):
    """A socket of the group."""

    groups = ["all"]

    async def told(self, message: dict[str, Any]) -> None:
        """One event."""
        await self.send(text_data=message["text"])  # type: ignore[no-untyped-call]


class Publisher(AsyncWebsocketConsumer):
    """Whoever makes a burst."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:  # noqa: ARG002
        """So many events for the group."""
        for frame in frames(int(text_data or "0")):
            await self.channel_layer.group_send("all", {"type": "told", "text": frame})


routes: list[Any] = [path("burst", Publisher.as_asgi()), path("watch", Watcher.as_asgi())]  # type: ignore[no-untyped-call]
application = ProtocolTypeRouter({"websocket": URLRouter(routes)})
