"""Whatever way a command's attempt ends, nothing that it started is left running."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from apps.executors import Options
from apps.executors.guard import Guard
from apps.executors.process import ProcessExecutor
from tests.unit.executors.conftest import PATIENCE
from tests.unit.executors.test_process import process_call, python

# Each starts a grandchild in its own way and writes its number to $PIDS before it goes on.
GRANDCHILDREN = {
    "in its group": "sleep 300 & echo $! >> $PIDS",
    "in a session of its own": "setsid -f sh -c 'echo $$ >> $PIDS; exec sleep 300'",
    "orphaned in a session of its own": "(setsid sh -c 'echo $$ >> $PIDS; exec sleep 300' &)",
    "orphaned without its environment": "(setsid env -i PIDS=$PIDS sh -c 'echo $$ >> $PIDS; exec sleep 300' &)",
    "without its environment": "setsid env -i PIDS=$PIDS sh -c 'echo $$ >> $PIDS; exec sleep 300' &",
    "without its environment and deaf": "setsid env -i PIDS=$PIDS sh -c "
    "'trap \"\" TERM; echo $$ >> $PIDS; while :; do sleep 1; done' &",
    "deaf to SIGTERM": "setsid sh -c 'trap \"\" TERM; echo $$ >> $PIDS; while :; do sleep 1; done' &",
}


@pytest.fixture
async def executor(options):
    guard = Guard(options.work_dir)
    yield ProcessExecutor(options, guard)
    await asyncio.to_thread(guard.close)


async def written(path: Path, lines: int = 1) -> list[int]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if path.exists() and len(path.read_text().splitlines()) >= lines:
            return [int(line) for line in path.read_text().splitlines()]
        await asyncio.sleep(0.01)
    raise AssertionError("the command did not come so far")


def running(pids: list[int]) -> list[int]:
    left = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                left.append(pid)
        except psutil.NoSuchProcess:
            pass
    return left


def begun(executor, sink, command, pids: Path) -> asyncio.Task:
    config = {"command": command, "environment": {"PIDS": str(pids)}}
    return asyncio.ensure_future(executor.run(process_call(config), sink))


@pytest.mark.parametrize("how", GRANDCHILDREN)
async def test_a27_a_cancel_ends_every_grandchild(executor, sink, tmp_path, how):
    pids = tmp_path / "pids"
    task = begun(executor, sink, ["sh", "-c", f"echo $$ >> $PIDS; {GRANDCHILDREN[how]}\nsleep 300"], pids)
    started = await written(pids, 2)
    assert len(running(started)) == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running(started) == []
    assert not list(tmp_path.rglob("command*"))


@pytest.mark.parametrize("how", GRANDCHILDREN)
async def test_a27_a_normal_end_leaves_nothing_behind(executor, sink, tmp_path, how):
    pids = tmp_path / "pids"
    command = f"{GRANDCHILDREN[how]}\nuntil [ -s $PIDS ]; do sleep 0.01; done; echo done"
    result = await begun(executor, sink, ["sh", "-c", command], pids)
    assert result.outputs["stdout"] == "done\n"
    assert running(await written(pids)) == []


async def test_a27_what_ignores_sigterm_is_killed_after_its_grace(executor, sink, tmp_path):
    pids = tmp_path / "pids"
    task = begun(executor, sink, ["sh", "-c", "trap '' TERM; echo $$ >> $PIDS; while :; do sleep 0.1; done"], pids)
    started = await written(pids)
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert 1.9 < time.monotonic() - began < PATIENCE  # it never ends by itself
    assert running(started) == []


async def test_what_heeds_sigterm_may_tidy_up(executor, sink, tmp_path, monkeypatch):
    monkeypatch.setattr("apps.executors.process.executor.GRACE_SECONDS", 2 * PATIENCE)
    pids = tmp_path / "pids"
    code = "trap 'echo tidied >&2; exit 0' TERM; echo $$ >> $PIDS; while :; do sleep 0.05; done"
    task = begun(executor, sink, ["sh", "-c", code], pids)
    await written(pids)
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < PATIENCE, "its grace is not waited for to its end"
    assert sink.text("stderr").endswith("tidied\n")


async def test_a27_a_second_cancel_does_not_let_it_slip(executor, sink, tmp_path):
    pids = tmp_path / "pids"
    task = begun(executor, sink, ["sh", "-c", "trap '' TERM; echo $$ >> $PIDS; while :; do sleep 0.1; done"], pids)
    started = await written(pids)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.05)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running(started) == []


async def test_a27_a_deadline_ends_a_tree_that_keeps_growing(executor, sink, tmp_path):
    """A fork bomb with a bound: every process starts another, in turn in its group and in a session of its own."""
    pids = tmp_path / "pids"
    bomb = tmp_path / "bomb"
    bomb.write_text(
        '#!/bin/sh\necho $$ >> $PIDS\nsleep 0.02\n[ $1 -lt 40 ] && { setsid "$0" $(($1+1)) & "$0" $(($1+2)) & }\n'
        "sleep 300\n"
    )
    bomb.chmod(0o755)
    task = begun(executor, sink, [str(bomb), "33"], pids)
    await written(pids, 8)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await task
    assert running(await written(pids)) == []


async def test_many_at_once_are_all_ended(executor, sink, tmp_path):
    pids = tmp_path / "pids"
    tasks = [begun(executor, sink, ["sh", "-c", "echo $$ >> $PIDS; sleep 300 & wait"], pids) for _ in range(20)]
    started = await written(pids, 20)
    for task in tasks:
        task.cancel()
    assert all(isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*tasks, return_exceptions=True))
    assert running(started) == []


WORKER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from apps.executors import Options
from apps.executors.guard import Guard
from apps.executors.process import ProcessExecutor
from tests.unit.executors.conftest import Remembered
from tests.unit.executors.test_process import process_call

options = Options(process_steps="trusted", work_dir=Path({work!r}))
config = {{"command": ["sh", "-c", {command!r}], "environment": {{"PIDS": {pids!r}}}}}
asyncio.run(ProcessExecutor(options, Guard(options.work_dir)).run(process_call(config), Remembered()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs setpriv and /proc")
async def test_a27_a_worker_that_is_killed_takes_its_commands_with_it(tmp_path):
    pids = tmp_path / "pids"
    hidden = GRANDCHILDREN["orphaned without its environment"]
    command = f"echo $$ >> $PIDS; setsid sh -c 'echo $$ >> $PIDS; exec sleep 300' & {hidden}; sleep 300"
    root = str(Path(__file__).parents[3])
    text = WORKER.format(root=root, work=str(tmp_path / "work"), command=command, pids=str(pids))
    worker = subprocess.Popen([sys.executable, "-c", text], cwd=root)
    started = await written(pids, 3)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    deadline = time.monotonic() + PATIENCE
    while (running(started) or list((tmp_path / "work").glob("*"))) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert running(started) == []
    assert list((tmp_path / "work").glob("*")) == []


async def test_a_worker_without_room_says_so_and_may_try_again(tmp_path, sink):
    blocked = tmp_path / "file"
    blocked.write_text("")
    guard = Guard(blocked)
    executor = ProcessExecutor(Options(process_steps="trusted", work_dir=blocked), guard)
    error = (await executor.run(process_call({"command": python("print(1)")}), sink)).error
    assert (error.type, error.retryable) == ("unavailable", True)
    await asyncio.to_thread(guard.close)
