"""The doorbell across hosts: the channel layer (channels-redis, pub/sub), where `REDIS_URL` names one.

Beside the bell of the database, not instead of it: a ring that comes by both ways is one look, and one that comes by
neither is found by the poll. No message says more than "look".
"""

import asyncio
import logging

from channels.layers import get_channel_layer

from apps.core.bell import group_of

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0  # after an error of the layer


def heard(rung: asyncio.Event) -> asyncio.Task[None]:
    """Set `rung` at each ring of the topic `events` that comes from whatever host, until the task is cancelled."""
    return asyncio.create_task(_hear(rung), name="progress-rings")


async def _hear(rung: asyncio.Event) -> None:
    layer = get_channel_layer()
    if layer is None:
        return
    while True:
        try:
            channel = await layer.new_channel()
            await layer.group_add(group_of("events"), channel)
            try:
                while True:
                    await layer.receive(channel)
                    rung.set()
            finally:
                await layer.group_discard(group_of("events"), channel)
        except Exception:
            logger.warning("the channel layer cannot be heard; the feed has its other bell and polls", exc_info=True)
            await asyncio.sleep(AGAIN_SECONDS)
