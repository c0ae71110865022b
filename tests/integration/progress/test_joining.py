"""Joining the feed: whatever overtakes whatever, a reader gets each event once and in order."""

import asyncio
import random
from uuid import uuid4

import pytest

from apps.progress import feed as feeds
from apps.progress.feed import Feed, Reader
from apps.progress.frames import Frame
from apps.progress.outbox import Outbox

EXECUTION = uuid4()


class Journal:
    """Events that grow while they are read; every read takes its time, as a thread would."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.length = 5

    async def in_thread(self, function, *given):
        await self._wait()
        if function is feeds._read:
            _, _, after, limit = given
            answer = self._frames(after, limit)
        else:
            _, asked, _ = given
            answer = [(execution, self._frames(after, 4)) for execution, after in asked.items()], False
        await self._wait()  # the answer was true a while ago
        return answer

    def _frames(self, after, limit):
        last = min(self.length, after + limit)
        return [Frame(text=str(seq), execution_id=EXECUTION, seq=seq) for seq in range(after + 1, last + 1)]

    async def _wait(self):
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)


def _sent(reader):
    return [frame.seq for batch in reader.outbox._batches for frame in batch.frames]


@pytest.mark.parametrize("seed", range(200))
async def test_a20_readers_that_come_and_go_while_events_arrive(monkeypatch, seed):
    journal = Journal(seed)
    chance = journal.random
    monkeypatch.setattr(feeds, "in_thread", journal.in_thread)
    monkeypatch.setattr(feeds, "PAGE", 3)
    feed, readers, joining = Feed(), [], []

    async def look():
        while True:
            await feed._look()
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    for _ in range(40):
        act = chance.randrange(4)
        if act == 0 and len(readers) < 8:
            reader, after = Reader(outbox=Outbox()), chance.randrange(journal.length + 1)
            fresh = chance.random() < 0.5
            after = journal.length if fresh else after
            feed._readers.add(reader)
            readers.append((reader, after))
            joining.append(asyncio.create_task(feed.follow(reader, EXECUTION, "t", after=after, fresh=fresh)))
        elif act == 1 and readers and chance.random() < 0.3:
            reader, after = readers.pop(chance.randrange(len(readers)))
            feed.leave(reader)
            sent = _sent(reader)
            assert sent == list(range(after + 1, after + 1 + len(sent)))
        else:
            journal.length += chance.randrange(4)
        await journal._wait()
    await asyncio.gather(*joining)
    async with asyncio.timeout(60):
        while any(_sent(reader)[-1:] != [journal.length] and after < journal.length for reader, after in readers):
            await asyncio.sleep(0)
    looking.cancel()
    for reader, after in readers:
        assert _sent(reader) == list(range(after + 1, journal.length + 1))
