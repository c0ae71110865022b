"""Callers with tokens, REST clients, and sockets to the real routing."""

import asyncio
import json
import threading

import pytest
from channels.testing import WebsocketCommunicator
from django.core.cache import cache
from django.db import connections
from django.test import Client

from apps.accounts import tokens
from apps.progress import feed, protocol, sweep
from apps.progress.routing import websocket

PATIENCE = 60  # seconds; far above what anything here takes on a busy machine


@pytest.fixture(autouse=True)
def _fresh_cache():
    cache.clear()
    yield
    cache.clear()


@pytest.fixture(scope="session", autouse=True)
def _no_connection_stays_open(django_db_setup, django_db_blocker):
    """The feed's threads keep their connections, which PostgreSQL would count when the test database is dropped."""
    yield
    together = threading.Barrier(feed.THREADS)

    def close():
        together.wait(60)
        with django_db_blocker.unblock():
            connections.close_all()

    for done in [feed._threads.submit(close) for _ in range(feed.THREADS)]:
        done.result(120)


class Caller:
    """A client that sends a user's token, or none."""

    def __init__(self, user=None):
        self.user = user
        self.token = tokens.issue(user).access_token if user else None
        self.client = Client(raise_request_exception=False)

    @property
    def headers(self):
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def get(self, path):
        return self.client.get(path, headers=self.headers)

    def post(self, path, body=None, **headers):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(path, json.dumps(body), "application/json", headers={**self.headers, **names})

    def report(self, workflow_id, percent, status="in_progress", *, step=None, **more):
        body = {"workflow_id": workflow_id, "percent_complete": percent, "status": status, **more}
        return self.post("/progress/update", {**body, "step_id": step} if step else body)


@pytest.fixture
def anonymous(db):
    return Caller()


@pytest.fixture
def reporter(make_user):
    """May report and read progress of everything (role `agent`)."""
    return Caller(make_user("agent"))


@pytest.fixture
def reader(make_user):
    """May read progress of everything (role `guest`)."""
    return Caller(make_user("guest"))


@pytest.fixture
def nobody(make_user):
    """An account without any role."""
    return Caller(make_user())


@pytest.fixture
def caller():
    return Caller


def checked(text):
    """A frame, which must be one of the published protocol's."""
    protocol.told.validate_json(text)
    return json.loads(text)


class Socket:
    """A socket of a test; `frames` answers what came, `until` waits for a frame."""

    def __init__(self, query="", *, headers=(), subprotocols=None):
        path = "/progress/ws" + (f"?{query}" if query else "")
        self.link = WebsocketCommunicator(websocket, path, headers=list(headers), subprotocols=subprotocols)

    async def open(self):
        return (await self.link.connect(timeout=PATIENCE))[0]

    async def frame(self):
        return checked(await self.link.receive_from(timeout=PATIENCE))

    async def until(self, **wanted):
        """All frames up to the first one with these members."""
        found = []
        while not found or any(found[-1].get(name) != value for name, value in wanted.items()):
            found.append(await self.frame())
        return found

    async def closed(self):
        """(close code, frames before it)."""
        frames = []
        while True:
            message = await self.link.receive_output(timeout=PATIENCE + 3)
            if message["type"] == "websocket.close":
                return message.get("code"), frames
            frames.append(checked(message["text"]))

    async def say(self, **data):
        await self.link.send_to(text_data=json.dumps(data))

    async def close(self):
        await self.link.disconnect(timeout=PATIENCE)


@pytest.fixture
async def socket(monkeypatch):
    """Sockets that are closed at the end of the test; the sweep is quick."""
    monkeypatch.setattr(sweep, "SWEEP_SECONDS", 0.3)
    made = []

    def make(query="", *, by=None, **more):
        if by is not None:
            more["headers"] = [(b"authorization", f"Bearer {by.token}".encode()), *more.get("headers", ())]
        made.append(Socket(query, **more))
        return made[-1]

    yield make
    for one in made:
        if not one.link.future.done():
            await one.close()
    await asyncio.sleep(0)
