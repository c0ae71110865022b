"""What server processes on several hosts share over a real Redis: the doorbell, and tickets that work once."""

import asyncio
import itertools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from channels.layers import channel_layers
from django.core.cache import cache, caches

from apps.core import bell
from apps.progress import across, tickets
from apps.progress import feed as feeds
from apps.progress.credentials import Credential
from tests.integration.progress.conftest import PATIENCE
from tests.support import redis

ROOT = Path(__file__).resolve().parents[3]
run = sync_to_async


class Silent:
    """A bell that nobody hears."""

    def ring(self, *_):
        pass

    def close(self):
        pass


@pytest.fixture(scope="module")
def server():
    try:
        with redis.restartable() as one:
            yield one
    except redis.NotInstalled as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


@pytest.fixture
def shared(server, settings):
    """This process as one of several, with that Redis."""
    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [server.url]}}
    }
    channel_layers.backends.clear()
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": server.url,
            "OPTIONS": {"serializer": "apps.core.caching.JSONSerializer"},
        }
    }
    yield server
    cache.clear()
    bell.close()
    channel_layers.backends.clear()
    del caches["default"]


async def _rings(rung, ring):
    """Ring until it is heard: whoever listens may still be subscribing."""
    rung.clear()
    async with asyncio.timeout(PATIENCE):
        while not rung.is_set():
            await run(ring)("events", ["an id"])
            await asyncio.sleep(0.2)


async def test_a_ring_of_another_process_is_heard(shared):
    rung = asyncio.Event()
    hearing = across.heard(rung)
    code = "import django; django.setup(); from apps.core import bell; import time\n"
    code += "for _ in range(1000): bell.ring('events', ['x']); time.sleep(0.1)"
    other = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "REDIS_URL": shared.url, "DJANGO_SETTINGS_MODULE": "orchestration.settings.test"},
    )
    try:
        await asyncio.wait_for(rung.wait(), PATIENCE)
    finally:
        other.kill()
        other.wait()
        hearing.cancel()


async def test_a_broker_that_died_and_came_back_is_heard_again(shared):
    rung = asyncio.Event()
    hearing = across.heard(rung)
    try:
        await _rings(rung, bell.ring)
        shared.stop()
        for _ in range(3):
            await run(bell.ring)("events", ["lost"])  # neither waits nor fails
        shared.start()
        await _rings(rung, bell.ring)
    finally:
        hearing.cancel()


@pytest.mark.django_db(transaction=True)
async def test_the_layer_alone_carries_the_news(shared, socket, reporter, monkeypatch):
    """With no other bell, and no poll that could help."""
    monkeypatch.setattr(feeds, "_listen", lambda: None)
    monkeypatch.setattr(feeds, "POLL_SECONDS", 3600.0)
    monkeypatch.setattr(bell, "_make", Silent)
    bell.close()
    await run(reporter.report)("t", 1)
    one = socket("workflow_id=t", by=reporter)
    await one.open()
    await one.frame()
    told = asyncio.create_task(one.frame())
    for percent in itertools.count(2):  # until the feed has subscribed
        await run(reporter.report)("t", percent)
        if (await asyncio.wait([told], timeout=0.5))[0] or percent == 90:
            break
    assert (await told)["percent_complete"] == 2


def test_a15_a_ticket_works_once_in_all_processes_together(shared):
    held = [tickets.issue(Credential(session_key="a session")) for _ in range(20)]
    code = "import django; django.setup(); import json, sys\nfrom apps.progress import tickets\n"
    code += "print(json.dumps([tickets.redeem(one) is not None for one in json.loads(sys.argv[1])]))"
    environment = {**os.environ, "REDIS_URL": shared.url, "DJANGO_SETTINGS_MODULE": "orchestration.settings.test"}

    def spend(_):
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(held)],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return json.loads(done.stdout)

    with ThreadPoolExecutor(3) as pool:
        spent = list(pool.map(spend, range(3)))
    assert [sum(one) for one in zip(*spent, strict=True)] == [1] * 20


def test_nothing_is_unpickled_from_the_cache(shared):
    import redis as client

    with client.Redis.from_url(shared.url) as link:
        cache.set("a", {"b": 1}, 60)
        cache.set("n", 5, 60)
        assert link.get(":1:a") == b'{"b":1}'
        link.set(":1:evil", b"cos\nsystem\n(S'true'\ntR.")
    assert cache.get("a") == {"b": 1}
    assert cache.incr("n") == 6
    with pytest.raises(ValueError, match="Expecting"):
        cache.get("evil")
