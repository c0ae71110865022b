"""The doorbell between processes on one host: who begins to listen is rung at once, who has gone is not."""

import os
import time

import pytest

from apps.core import bell

TICK = 0.05  # longer than one of a file system's clock


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(bell, "_directory", lambda: tmp_path)
    monkeypatch.setattr(bell, "_LISTING_SECONDS", 3600.0)
    return tmp_path


@pytest.fixture
def sender():
    made = bell._SocketBell()
    yield made
    made.close()


def test_who_has_just_begun_to_listen_hears_the_next_ring(sender):
    sender.ring("events", ("1",))
    time.sleep(TICK)
    listener = bell._SocketListener(("events",))
    sender.ring("events", ("2",))
    assert listener.read() == [bell.Ring("events", ("2",))]
    listener.close()


def test_each_hears_its_own_topics(sender):
    events, both = bell._SocketListener(("events",)), bell._SocketListener(("events", "work"))
    sender.ring("work", ())
    sender.ring("events", ("1",))
    assert [heard.topic for heard in events.read()] == ["events"]
    assert [heard.topic for heard in both.read()] == ["work", "events"]
    for listener in (events, both):
        listener.close()


def test_too_many_ids_are_none(sender):
    listener = bell._SocketListener(("events",))
    sender.ring("events", tuple(map(str, range(bell.MAX_IDS + 1))))
    assert listener.read() == [bell.Ring("events", ())]
    listener.close()


def test_who_died_is_removed_and_harms_nobody(sender, directory):
    died, living = bell._SocketListener(("events",)), bell._SocketListener(("events",))
    died._socket.close()
    sender.ring("events", ("1",))
    assert living.read() == [bell.Ring("events", ("1",))]
    assert died._path.exists(), "it may have been a socket whose owner had not come so far"
    long_ago = time.time() - 2 * bell._MADE_WITHIN
    os.utime(died._path, (long_ago, long_ago))
    sender.ring("events", ("2",))
    assert living.read() == [bell.Ring("events", ("2",))]
    assert list(directory.iterdir()) == [living._path]
    living.close()
