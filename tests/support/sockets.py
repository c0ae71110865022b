"""What a client of a real WebSocket sees."""

import asyncio
import json
import time

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed


async def closed(link: ClientConnection, within: float) -> tuple[float, int | None, list[dict]]:
    """When (steady clock) and by which code the socket was closed, and the frames before that.

    Raises TimeoutError where nothing comes for `within` seconds.
    """
    frames = []
    try:
        while True:
            frames.append(json.loads(await asyncio.wait_for(link.recv(), within)))
    except ConnectionClosed as end:
        return time.monotonic(), end.rcvd and end.rcvd.code, frames
