"""The live tail of logs: every piece once and while it is written, by step, resumed, and ended with the right to it."""

import asyncio
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from guardian.shortcuts import assign_perm, remove_perm

from apps.accounts import tokens
from apps.core.clock import database_now
from apps.progress.api import logs as streams
from apps.workflows.engine.types import Progressed
from apps.workflows.models import LogChunk, Workflow
from apps.workflows.selectors.logs import LATE, Cursor, Tail, cursor_of
from apps.workflows.services import executions
from apps.workflows.services.ledger import LogLine, Report
from tests.integration.conftest import noop
from tests.integration.progress.conftest import PATIENCE, Caller
from tests.integration.progress.test_stream import Stream
from tests.integration.workflows.driver import accepted, claim, done

pytestmark = pytest.mark.django_db(transaction=True)

run = sync_to_async


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(streams, "SOON", 0.05)
    monkeypatch.setattr(streams, "LATER", 0.1)


@pytest.fixture
async def stream():
    made = []

    def make(path, **more):
        made.append(Stream(path, **more))
        return made[-1]

    yield make
    for one in made:
        if not one.link.future.done():
            await one.close()


@pytest.fixture
def watcher(owner):
    return Caller(owner)


@pytest.fixture
def execution(make_workflow, owner):
    return executions.start(make_workflow([noop("a"), noop("b")]), by=owner)


@pytest.fixture
def tasks(execution):
    return claim()


def write(task, number, *texts, stream="stdout"):
    happening = Progressed(step_id=task.step_id, fence=task.fence, percent=float(number), message="")
    lines = tuple(LogLine(number=number + at, stream=stream, text=text) for at, text in enumerate(texts))
    accepted(Report(task_id=task.task_id, happening=happening, logs=lines))


def path(execution, query=""):
    return f"/executions/{execution.pk}/logs/stream{query}"


async def texts(one, count):
    return [(await one.event())[1]["text"] for _ in range(count)]


async def test_what_is_there_then_what_comes_then_the_end(stream, watcher, execution, tasks):
    await run(write)(tasks["a"], 1, "first\n", "\x1b[31mred\x1b[0m\n")
    one = stream(path(execution), by=watcher)
    assert await one.open() == 200
    assert one.headers["content-type"] == "text/event-stream"
    kind, first = await one.event()
    assert (kind, first["text"], first["step_id"], first["attempt"], first["number"]) == (
        "message", "first\n", "a", 1, 1,
    )  # fmt: skip
    assert one.last == first["cursor"]
    assert await texts(one, 1) == ["\x1b[31mred\x1b[0m\n"]
    await run(write)(tasks["b"], 1, "later\n", stream="stderr")
    assert (await one.event())[1]["stream"] == "stderr"
    await run(accepted)(done(tasks["a"]), done(tasks["b"]))
    assert await one.event() == ("end", {"status": "completed"})
    assert await one.event() is None


async def test_one_step_and_from_where_it_was(stream, watcher, execution, tasks):
    await run(write)(tasks["a"], 1, *(f"a{n}\n" for n in range(500)))
    await run(write)(tasks["b"], 1, "b1\n")
    await run(accepted)(done(tasks["a"]), done(tasks["b"]))
    one = stream(path(execution, "?step_id=a"), by=watcher)
    await one.open()
    assert await texts(one, 500) == [f"a{n}\n" for n in range(500)]
    assert (await one.event())[0] == "end"
    old = await run(lambda: cursor_of(LogChunk.objects.get(task__step_id="a", number=499)))()
    await run(lambda: LogChunk.objects.update(at=database_now() - 10 * LATE))()
    old = await run(lambda: cursor_of(LogChunk.objects.get(task__step_id="a", number=499)))()
    for asked in (
        stream(path(execution, f"?step_id=a&after={old}"), by=watcher),
        stream(path(execution, "?step_id=a"), by=watcher, last=old),
    ):
        await asked.open()
        assert await texts(asked, 1) == ["a499\n"]


def test_a_piece_that_comes_late_is_told_all_the_same_and_none_twice(execution, tasks):
    """Two workers of one execution: what one has begun to write earlier may be committed after the other's."""
    tail = Tail(execution.pk)
    for turn in range(20):
        number = turn + 1
        write(tasks["a"], number, f"a{turn}\n")
        assert [chunk.text for chunk in tail.look()] == [f"a{turn}\n"]
        write(tasks["b"], number, f"b{turn}\n")
        LogChunk.objects.filter(task__step_id="b", number=number).update(at=database_now() - LATE / 2)
        assert [chunk.text for chunk in tail.look()] == [f"b{turn}\n"]
        assert tail.look() == []


def test_whoever_comes_again_is_told_nothing_twice(execution, tasks):
    write(tasks["a"], 1, "a1", "a2", "a3")
    write(tasks["b"], 1, "b1")
    chunk = LogChunk.objects.get(task__step_id="a", number=2)
    tail, seen = Tail(execution.pk, after=Cursor(chunk.at, chunk.task_id, chunk.fence, chunk.number)), []
    for number in range(4, 7):
        seen += [one.text for one in tail.look()]
        write(tasks["a"], number, f"a{number}")
    assert seen == ["a3", "b1", "a4", "a5"]


def test_many_pieces_of_one_moment_are_all_told(execution, tasks):
    tail, seen = Tail(execution.pk), []
    for turn in range(4):
        write(tasks["a"], 1 + 25 * turn, *(f"{turn}.{n}" for n in range(25)))
        while found := tail.look(10):
            seen += [chunk.text for chunk in found]
    assert seen == [f"{turn}.{n}" for turn in range(4) for n in range(25)]


def test_what_is_known_of_the_last_moments_is_bounded(execution, tasks):
    tail = Tail(execution.pk, after=Cursor(database_now() - timedelta(days=1), tasks["a"].task_id, 1, 0))
    write(tasks["a"], 1, *(f"{n}" for n in range(100)))
    LogChunk.objects.update(at=database_now() - 10 * LATE)
    assert len(tail.look()) == 100
    write(tasks["a"], 200, "new")
    assert [chunk.text for chunk in tail.look()] == ["new"]
    assert len(tail._told) == 1


async def test_who_may_not_read_is_told_as_everywhere(stream, watcher, nobody, execution, tasks):
    assert await stream(path(execution)).open() == 401
    assert await stream(path(execution), by=nobody).open() == 404
    assert await stream("/executions/00000000-0000-0000-0000-000000000000/logs/stream", by=watcher).open() == 404
    assert await stream("/executions/nonsense/logs/stream", by=watcher).open() == 404
    assert await stream(path(execution, "?after=x"), by=watcher).open() == 400


@pytest.mark.parametrize("ending", ["logout everywhere", "the grant"])
async def test_a17_what_ends_the_right_ends_the_tail(stream, nobody, execution, tasks, ending):
    workflow = await run(lambda: Workflow.objects.get(pk=execution.workflow_id))()
    await run(assign_perm)("workflow:read", nobody.user, workflow)
    await run(write)(tasks["a"], 1, "first\n")
    one = stream(path(execution), by=nobody)
    assert await one.open() == 200
    assert await texts(one, 1) == ["first\n"]
    if ending == "the grant":
        await run(remove_perm)("workflow:read", nobody.user, workflow)
    else:
        await run(tokens.revoke_all)(nobody.user)
    begun = asyncio.get_running_loop().time()
    kind, said = await one.event()
    assert (kind, said["code"]) == ("error", "permission_denied" if ending == "the grant" else "invalid_token")
    assert asyncio.get_running_loop().time() - begun < 5
    await run(write)(tasks["a"], 2, "not for you\n")
    assert await one.event() is None


async def test_a_quiet_tail_says_that_it_lives(stream, watcher, execution, tasks, monkeypatch):
    monkeypatch.setattr("apps.progress.api.stream.KEEPALIVE_SECONDS", 0.05)
    one = stream(path(execution), by=watcher)
    await one.open()
    while ": nothing new" not in one.text:
        one.text += (await one.link.receive_output(PATIENCE))["body"].decode()
    one.text = one.text.replace(": nothing new\n\n", "")
    await run(write)(tasks["a"], 1, "at last\n")
    assert await texts(one, 1) == ["at last\n"]


async def test_a19_a_tail_that_is_not_read_is_waited_for(stream, watcher, execution, tasks, monkeypatch):
    held = [streams.CONGESTED + 1]
    monkeypatch.setattr("apps.progress.wire.held_back", lambda _: lambda: held[0])
    looks = []
    monkeypatch.setattr(streams.Following, "look", counted(streams.Following.look, looks))
    await run(write)(tasks["a"], 1, "first\n")
    one = stream(path(execution), by=watcher)
    await one.open()
    assert await texts(one, 1) == ["first\n"]
    await asyncio.sleep(0.5)
    assert len(looks) == 1, "nothing is read for a peer that does not read"
    held[0] = 0
    await run(write)(tasks["a"], 2, "second\n")
    assert await texts(one, 1) == ["second\n"]


def counted(function, calls):
    def call(self):
        calls.append(1)
        return function(self)

    return call
