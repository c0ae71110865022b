"""A8: the cells of the sockets: refused in the handshake, closed by 4404, or told a snapshot."""

import asyncio
import json

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.core.cache import cache

from apps.progress.routing import websocket
from orchestration import matrix
from tests.integration.matrix import world as worlds

CELLS = [cell for cell in matrix.cells() if cell[0].startswith("WS ")]
CLOSED = {4401: "401", 4403: "403", 4404: "404"}


async def seen(path, header):
    link = WebsocketCommunicator(websocket, path, headers=header)
    accepted, _ = await link.connect(timeout=60)
    if not accepted:
        return "refused"
    first = json.loads(await link.receive_from(timeout=60))
    if first["type"] == "snapshot":
        await link.disconnect(timeout=60)
        return "yes"
    closing = await link.receive_output(timeout=60)
    return CLOSED.get(closing.get("code"), str(closing))


@pytest.mark.django_db(transaction=True)
async def test_a8_every_cell_of_the_sockets():
    cache.clear()
    world = await sync_to_async(worlds.build)()
    wrong = []
    for route, _, caller, relation, expected in CELLS:
        slug = world.thing(caller, relation).workflow.slug
        token = world.clients[caller].defaults.get("HTTP_AUTHORIZATION", "")
        header = [(b"authorization", token.encode())] if token else []
        found = await seen(f"{route.partition(' ')[2]}?workflow_id={slug}", header)
        if found != expected and not (found == "refused" and expected in ("401", "403")):
            wrong.append(f"{route} as {caller} ({relation}): {expected} is declared, {found} was seen")
    print(f"matrix of the sockets: {len(CELLS)} cells")
    assert CELLS
    assert not wrong, "\n".join(wrong)
    await asyncio.sleep(0)
