"""The client of an agent by itself: what it reports, and what it does when it is told to drain."""

import asyncio
import json
import logging
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
def performing(monkeypatch, told):
    """`performing(coroutine)`: an agent that performs one task with it and drains; what it reported is in `told`.

    With `draining` it is drained while the answer to its claim is on its way.
    """

    async def perform(work, answers=None, *, draining=False):
        claims = iter([[TASK]])
        answers = answers or {}

        async def answer(request):
            route = request.url.path.rpartition("/")[2]
            if route == "claim":
                if draining:
                    agent.drain()
                await asyncio.sleep(0.05)
                return httpx.Response(200, json={"tasks": next(claims, [])})
            if route != "heartbeat":
                told.append((route, request.content))
                one = next(answers.get(route, iter(())), None)
                if isinstance(one, Exception):
                    raise one
                if route in ("complete", "fail"):
                    agent.drain()
                return httpx.Response(one or 204, json={})
            beat = {"cancel": [], "lost": [], "lease_expires_at": TASK["lease_expires_at"]}
            return httpx.Response(200, json=beat, headers={"Date": "Fri, 27 Nov 2026 00:00:00 GMT"})

        transport = partial(httpx.AsyncClient, transport=httpx.MockTransport(answer))
        monkeypatch.setattr(client.httpx, "AsyncClient", transport)
        agent = Agent("http://platform.example", "a-1", "aoa_token")
        await asyncio.wait_for(agent.serve(work), 60)

    return perform


async def test_what_a_claim_brought_while_it_drains_is_ended(performing, told):
    async def double(task):
        return {"twice": 2 * task.inputs["n"]}

    await performing(double, draining=True)
    ((route, body),) = told
    assert (route, json.loads(body)) == ("complete", {"attempt": 1, "outputs": {"twice": 4}})


@pytest.mark.parametrize(
    ("text", "said"),
    [("no \udcff\0 file", "no ? file"), (" ", "OSError"), ("x" * 3000, "x" * 2000)],
    ids=["hostile", "blank", "long"],
)
async def test_a_failure_is_reported_whatever_its_message_holds(performing, told, caplog, text, said):
    # What pytest keeps of the log goes from one process to another, and a lone surrogate cannot.
    caplog.set_level(logging.CRITICAL + 1, logger=client.logger.name)

    async def fails(task):
        raise OSError(text)

    await performing(fails)
    ((route, body),) = told
    assert (route, json.loads(body)) == ("fail", {"attempt": 1, "error": said, "retryable": True})


async def test_a_log_of_whatever_length_is_sent_in_pieces_and_a_message_is_cut(performing, told):
    async def talks(task):
        await task.log("x" * 16_384 * 45 + "end\udcff")
        await task.log("more")
        await task.progress(5, "y" * 5000 + "\0")

    await performing(talks)
    said = [(route, json.loads(body)) for route, body in told]
    assert [route for route, _ in said] == ["logs", "logs", "logs", "progress", "complete"]
    lines = [line for route, body in said if route == "logs" for line in body["lines"]]
    assert [line["number"] for line in lines] == list(range(1, 48))
    assert "".join(line["text"] for line in lines) == "x" * 16_384 * 45 + "end?more"
    assert max(len(line["text"]) for line in lines) == 16_384
    assert said[3][1]["message"] == "y" * 1000


async def test_a_file_is_sent_again_where_nothing_answers(performing, told):
    async def leaves(task):
        await task.artifact("a.txt", b"text")

    await performing(leaves, {"artifacts": iter([httpx.ReadError("reset"), 503, 201])})
    assert [route for route, _ in told] == ["artifacts"] * 3 + ["complete"]
