"""The client of an agent by itself: what it does when it is told to drain."""

import asyncio
import json
from functools import partial

import httpx
import pytest

from apps.agents import client
from apps.agents.client import Agent

TASK = {
    "task_id": "t-1", "attempt": 1, "workflow_id": "w", "execution_id": "e", "step_id": "s", "inputs": {"n": 2},
    "lease_expires_at": "2026-11-27T00:00:30+00:00",
}  # fmt: skip


@pytest.fixture
def told():
    """The reports that came in: (route, body)."""
    return []


@pytest.fixture
def agent(monkeypatch, told):
    """An agent that is drained while the answer to its claim is on its way."""
    claims = iter([[TASK]])

    async def answer(request):
        route = request.url.path.rpartition("/")[2]
        if route == "claim":
            one.drain()
            await asyncio.sleep(0.05)
            return httpx.Response(200, json={"tasks": next(claims)})
        if route != "heartbeat":
            told.append((route, json.loads(request.content)))
        beat = {"cancel": [], "lost": [], "lease_expires_at": TASK["lease_expires_at"]}
        return httpx.Response(200, json=beat, headers={"Date": "Fri, 27 Nov 2026 00:00:00 GMT"})

    monkeypatch.setattr(client.httpx, "AsyncClient", partial(httpx.AsyncClient, transport=httpx.MockTransport(answer)))
    one = Agent("http://platform.example", "a-1", "aoa_token")
    return one


async def test_what_a_claim_brought_while_it_drains_is_ended(agent, told):
    async def double(task):
        return {"twice": 2 * task.inputs["n"]}

    await asyncio.wait_for(agent.serve(double), 20)
    assert told == [("complete", {"attempt": 1, "outputs": {"twice": 4}})]
