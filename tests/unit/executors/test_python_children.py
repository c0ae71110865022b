"""Synchronous callables in real child processes: what they say, how they end, what is left of them."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from apps.executors.options import SERVER_SECRETS
from tests.unit.executors.conftest import PATIENCE, TEAM


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


async def eventually(condition, seconds=PATIENCE):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_the_result_and_who_asked(run):
    assert (await run("crew_reports.total", item=4, factor=5)).outputs == {"result": 20}
    assert (await run("crew_reports.identity", attempt=2)).outputs == {
        "attempt": 2, "task_key": "task", "attempt_key": "task:2",
        "workflow_id": "daily", "execution_id": "run-1", "step_id": "sum-up",
    }  # fmt: skip


async def test_everything_that_is_written_reaches_the_log(run, sink):
    assert (await run("crew_reports.chatter")).error is None
    text = sink.text("stdout")
    assert text.index("one\n") < text.index("two\n") < text.index("three")
    assert all(word in text for word in ("four\n", "five\n", "six\n"))
    assert sink.text("stderr") == "oh\n"


async def test_the_log_of_one_step_is_not_that_of_the_next(run, sink):
    for _ in range(3):
        await run("crew_reports.chatter")
        sink.logs.clear()
        await run("crew_reports.total", item=1)
        assert sink.text() == ""


async def test_the_log_is_cut_with_one_line_that_says_so(run, sink):
    assert (await run("crew_reports.flood")).error is None
    text = sink.text()
    assert text.count("100,000") == 1
    assert 100_000 <= len(text) < 100_200


async def test_progress(run, sink):
    await run("crew_reports.reporting")
    assert sink.reports == [(10, "begun"), (60.5, ""), (100, "done")]


async def test_a_heartbeat_says_that_it_goes_on_where_it_was(run, sink):
    assert (await run("crew_reports.beating")).error is None
    assert sink.reports == [(25, "loading"), (25, "loading"), (25, "still loading")]


async def test_an_exception_is_a_bounded_message_and_a_traceback_in_the_log(run, sink):
    error = (await run("crew_reports.raising")).error
    assert (error.type, error.retryable) == ("error", True)
    assert error.message.startswith("ValueError: no such day yyy")
    assert len(error.message) <= 1_000
    log = sink.text("stderr")
    assert "Traceback" in log
    assert "crew_reports.py" in log
    assert "apps/executors" not in log
    assert "\x00" not in log


async def test_a_callable_fails_as_it_means_to(run):
    error = (await run("crew_reports.refusing", message="no such report")).error
    assert (error.type, error.message, error.retryable) == ("error", "no such report", False)
    error = (await run("crew_reports.refusing", message="later", type="connection", retryable=True)).error
    assert (error.type, error.message, error.retryable) == ("connection", "later", True)


async def test_sys_exit_is_an_exception_like_others(run):
    before = (await run("crew_reports.who")).outputs
    assert "SystemExit" in (await run("crew_reports.exiting")).error.message
    assert (await run("crew_reports.who")).outputs == before


@pytest.mark.parametrize(
    ("name", "given", "type_", "words"),
    [
        ("dying", {"number": signal.SIGKILL}, "oom", "memory"),
        ("dying", {"number": signal.SIGKILL}, "error", "signal 9"),
        ("dying", {"number": signal.SIGSEGV}, "error", "signal 11"),
        ("leaving", {"code": 7}, "error", "code 7"),
    ],
)
async def test_a_child_that_dies_is_named_and_replaced(run, monkeypatch, name, given, type_, words):
    counted = iter([1, 2] if type_ == "oom" else [1, 1])
    monkeypatch.setattr("apps.executors.memory.kills", lambda: next(counted, 2))
    error = (await run(f"crew_reports.{name}", **given)).error
    assert (error.type, error.retryable) == (type_, True)
    assert words in error.message
    assert (await run("crew_reports.total", item=1)).outputs == {"result": 2}


async def test_a_child_is_used_again(run):
    first, second = (await run("crew_reports.who")).outputs, (await run("crew_reports.who")).outputs
    assert first == second
    assert first["pid"] != os.getpid()


async def test_there_are_no_more_children_than_allowed(run):
    found = await asyncio.gather(*(run("crew_reports.who") for _ in range(8)))
    assert len({result.outputs["pid"] for result in found}) <= 2


async def test_a_cancel_leaves_nothing_running(run, tmp_path):
    file = tmp_path / "pids"
    task = asyncio.create_task(run("crew_reports.sleeping_family", file=str(file)))
    await eventually(file.exists)
    pids = [int(pid) for pid in file.read_text().split()]
    assert all(alive(pid) for pid in pids)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not [pid for pid in pids if alive(pid)]
    assert (await run("crew_reports.who")).outputs["pid"] not in pids


async def test_a_second_cancel_does_not_cut_the_first_short(run, tmp_path):
    file = tmp_path / "pids"
    task = asyncio.create_task(run("crew_reports.sleeping_family", file=str(file)))
    await eventually(file.exists)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not [pid for pid in map(int, file.read_text().split()) if alive(pid)]


async def test_what_a_callable_leaves_behind_ends_with_it(run):
    outputs = (await run("crew_reports.leaving_a_stray")).outputs
    await eventually(lambda: not alive(outputs["stray"]))


WORKER = """
import asyncio, sys
from pathlib import Path
sys.path.append(sys.argv[1])
from apps.executors import Executors, Options
from tests.unit.executors.conftest import Remembered, step_call
options = Options(process_steps="trusted", callable_modules=("crew_reports",), work_dir=Path(sys.argv[2]))
call = step_call("crew_reports.sleeping_family", {"file": sys.argv[3]})
asyncio.run(Executors(options).get("python").run(call, Remembered()))
"""


async def test_a_worker_that_is_killed_leaves_nothing_running(tmp_path):
    file = tmp_path / "pids"
    command = [sys.executable, "-c", WORKER, str(TEAM), str(tmp_path / "work"), str(file)]
    root = str(Path(__file__).parents[3])
    worker = await asyncio.create_subprocess_exec(*command, env={**os.environ, "PYTHONPATH": root})
    await eventually(file.exists)
    pids = [int(pid) for pid in file.read_text().split()]
    worker.kill()
    await worker.wait()
    await eventually(lambda: not any(alive(pid) for pid in pids))


async def test_closing_kills_the_idle_ones(executors, run):
    pid = (await run("crew_reports.who")).outputs["pid"]
    await executors.close()
    assert not alive(pid)


async def test_the_servers_secrets_are_not_in_the_environment(run, monkeypatch):
    for name in SERVER_SECRETS:
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("CREW_COLOUR", "blue")
    names = (await run("crew_reports.environment")).outputs["names"]
    assert not set(names) & set(SERVER_SECRETS)
    assert "CREW_COLOUR" in names
    assert set(SERVER_SECRETS) >= {
        "SECRET_KEY", "JWT_SIGNING_KEY", "VAULT_KEYS", "ADMIN_PASSWORD", "DATABASE_URL", "REDIS_URL",
        "CELERY_BROKER_URL", "LLM_API_KEY", "DAGGER_SESSION_TOKEN",
    }  # fmt: skip


async def test_what_a_callable_changes_is_put_back(run, sink, options):
    await run("crew_reports.spoiling")
    found = (await run("crew_reports.surroundings")).outputs
    assert found["spoiled"] is None
    assert Path(found["directory"]).is_relative_to(options.work_dir.resolve())
    assert sink.text("stdout") == "still heard\n"


async def test_a_child_with_a_thread_left_over_is_not_used_again(run):
    pid = (await run("crew_reports.lingering_thread")).outputs["pid"]
    assert (await run("crew_reports.who")).outputs["pid"] != pid
