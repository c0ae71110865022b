"""What a worker leaves when it is killed with SIGKILL: nothing, by real processes."""

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from apps.executors import guard
from apps.executors.guard import Guard
from apps.executors.spawn import ChildProcess, PipeReader, uninterrupted
from tests.unit.executors.conftest import PATIENCE

ROOT = Path(__file__).parents[3]

WORKER = """
import asyncio, sys
from pathlib import Path
from apps.executors import Executors, Options, StepCall

class Quiet:
    def log(self, stream, text): print(text, end="", flush=True)
    def progress(self, percent, message=""): pass

def call(kind, config):
    names = dict(task_key="t", attempt_key="t:1", workflow_id="w", execution_id="e", step_id="s")
    return StepCall(kind=kind, config=config, attempt=1, **names)

async def main():
    executors = Executors(Options(work_dir=Path(sys.argv[1]), process_steps="trusted"))
    script = "sleep 300 & echo $!; setsid sleep 300 & echo $!; (setsid sh -c 'sleep 300' &) ; echo $$; wait"
    await asyncio.gather(
        executors.get("process").run(call("process", {"command": ["sh", "-c", script]}), Quiet()),
        executors.get("python").run(call("python", {"call": "builtin.fib", "with": {"n": 60}}), Quiet()),
    )

asyncio.run(main())
"""


def alive(pid):
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def wait_until(true, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


def test_a27_a_killed_worker_leaves_no_process_and_no_directory(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    with subprocess.Popen(command, env=environment, cwd="/", stdout=subprocess.PIPE, text=True) as worker:
        try:
            pids = {int(worker.stdout.readline()) for _ in range(3)}
            token = f"{next(tmp_path.glob('*-*')).name}/"

            def children():
                return {child.pid for child in psutil.Process(worker.pid).children()}

            assert wait_until(lambda: len(children()) == 3)  # the guard itself bears no mark
            # by their mark: the command, its three sleeps (one of them nobody's child any more), the callable's child
            assert wait_until(lambda: len(guard.marked(token)) >= 5 and len(children() & guard.marked(token)) == 2)
            pids |= children() | guard.marked(token)
            assert len(pids) >= 6
            assert all(alive(pid) for pid in pids)
        finally:
            worker.send_signal(signal.SIGKILL)
    assert wait_until(lambda: not any(alive(pid) for pid in pids)), [p for p in pids if alive(p)]
    assert wait_until(lambda: not list(tmp_path.iterdir()))


def test_marks_are_found_also_in_what_left_its_family():
    made = Guard(Path("/nonexistent"))
    mark, other = f"{made._token}/a", f"{made._token}/ab"
    script = "(setsid sh -c 'sleep 300' &); sleep 300"
    started = [
        subprocess.Popen(["/bin/sh", "-c", script], env={guard.MARK: value, "PATH": os.environ["PATH"]})
        for value in (mark, other)
    ]
    try:
        assert wait_until(lambda: len(guard.marked(mark)) >= 3)
        assert wait_until(lambda: len(guard.marked(other)) >= 3)
        assert started[0].pid in guard.marked(mark)
        assert not guard.marked(mark) & guard.marked(other)
        assert started[0].pid not in guard.marked(mark, leader=started[0].pid)
        assert guard.sweep(mark)
        assert not guard.marked(mark)
        assert guard.marked(other), "only what bears the very mark is killed"
    finally:
        assert guard.sweep(f"{made._token}/")
        for process in started:
            process.wait()


def test_a_private_directory_is_private_and_is_removed_whatever_was_done_in_it(tmp_path):
    made = Guard(tmp_path / "deep" / "er")
    try:
        path = made.directory(made.mark("command"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        outside = tmp_path / "kept"
        outside.write_text("kept")
        (path / "link").symlink_to(outside)
        (path / "locked").mkdir()
        (path / "locked" / "file").touch(mode=0o400)
        (path / "locked").chmod(0)
        guard.remove(path)
        assert not path.exists()
        assert outside.read_text() == "kept"
    finally:
        made.close()
    assert not list((tmp_path / "deep" / "er").iterdir())


def test_marks_are_never_given_twice(tmp_path):
    first, second = Guard(tmp_path), Guard(tmp_path)
    try:
        marks = [made.mark("command") for made in (first, second) for _ in range(50)]
        assert len(set(marks)) == 100
    finally:
        first.close()
        second.close()
    first.close()  # once more is harmless


@pytest.fixture
def started(tmp_path):
    """A child with its output as text, and what it printed."""
    made = Guard(tmp_path)

    def start(script):
        heard = []
        pipe = PipeReader(heard.append)
        child = ChildProcess(
            ["/bin/sh", "-c", script],
            mark=made.mark("command"),
            environment={"PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            stdout=pipe.write_end,
            stderr=subprocess.DEVNULL,
        )
        pipe.handed_over()
        return child, pipe, heard

    yield start
    made.close()


async def test_a27_a_bounded_fork_bomb_is_gone_after_the_kill(started):
    child, pipe, _ = started("bomb() { [ $1 -gt 0 ] && { bomb $(($1-1)) & bomb $(($1-1)) & }; sleep 300; }; bomb 5")
    async with asyncio.timeout(PATIENCE):
        while len(psutil.Process(child.pid).children(recursive=True)) < 60:
            await asyncio.sleep(0.05)
    family = [process.pid for process in psutil.Process(child.pid).children(recursive=True)]
    async with asyncio.timeout(PATIENCE):
        await child.destroy()
    assert not any(alive(pid) for pid in [child.pid, *family])
    pipe.close()


async def test_a27_a_descendant_that_left_its_session_and_its_environment_is_found_by_descent(started):
    child, pipe, heard = started("env -i setsid sleep 300 & echo $!; wait")
    async with asyncio.timeout(PATIENCE):
        while not heard:
            await asyncio.sleep(0.01)
    stray = int(heard[0])
    async with asyncio.timeout(PATIENCE):
        while psutil.Process(stray).environ() or os.getsid(stray) == child.pid:
            await asyncio.sleep(0.01)
    await child.destroy()
    assert not alive(stray)
    pipe.close()


async def test_text_is_decoded_across_pieces_and_its_end_is_told():
    heard = []
    pipe = PipeReader(heard.append)
    for piece in (b"\xc3", b"\xa9", b"\xff", b"\xe2\x82"):
        os.write(pipe.write_end, piece)
        await asyncio.sleep(0.01)
    pipe.handed_over()
    async with asyncio.timeout(PATIENCE):
        await pipe.ended.wait()
    assert "".join(heard) == "é\ufffd\ufffd"


async def test_work_that_must_finish_does_and_the_cancel_comes_after():
    finished = []

    async def work():
        await asyncio.sleep(0.05)
        finished.append(True)

    task = asyncio.create_task(uninterrupted(work()))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert finished


async def test_an_error_of_such_work_is_raised():
    async def work():
        raise LookupError("as it was")

    with pytest.raises(LookupError, match="as it was"):
        await uninterrupted(work())
