"""A39: the disk under SQLite is full: 507 or 503, no corruption, and it goes on by itself when there is room again."""

import contextlib
import sqlite3
import subprocess
import time

import pytest

from tests.e2e.conftest import Installation
from tests.e2e.test_chaos_database import Caller, whole
from tests.e2e.test_make_run import ended, until

SIZE = 24  # MiB


@pytest.fixture
def small_disk(tmp_path):
    """A file system of some MiB; only root can make one."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no small file system can be made here: {made.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a39_a_full_disk_is_told_nothing_is_spoilt_and_it_recovers(small_disk):
    installation = Installation(small_disk, LOG_LEVEL="ERROR").start()
    try:
        client = installation.client()
        steps = [{"id": "a", "python": "builtin.noop"}, {"id": "b", "python": "builtin.noop", "depends_on": ["a"]}]
        assert client.post("/workflows", json={"name": "Full", "steps": steps}).status_code == 201
        first = client.post("/workflows/full/execute", json={})
        assert first.status_code == 202, "the control"
        ended(client, first.json()["execution_id"])
        ballast = small_disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        caller = Caller(client, "/workflows/full/execute")
        caller.start()
        until(lambda: any(status in (503, 507) for _, status in caller.answers), 120)
        time.sleep(3)
        ballast.unlink()
        room = time.monotonic()
        until(lambda: caller.first_good_since(room))
        caller.end()
        statuses = {status for _, status in caller.answers}
        seconds = caller.first_good_since(room) - room
        print(f"answers {sorted(map(str, statuses))}; good again {seconds:.1f} s after there was room")
        assert statuses <= {202, 503, 507}
        for execution in caller.acknowledged:
            assert ended(client, execution, 180)["status"] == "completed"
        whole(installation)
        with contextlib.closing(sqlite3.connect(small_disk / "data" / "platform.sqlite3", timeout=60)) as link:
            assert link.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        installation.stop()
    finally:
        installation.kill()


def test_a39_an_output_of_100_mb_fails_its_own_step_and_no_other(installation):
    client = installation.client()
    big = {"id": "big", "command": ["sh", "-c", "head -c 100000000 /dev/zero | tr '\\0' x"]}
    well = {"id": "well", "python": "builtin.noop", "depends_on": ["big"], "on": "always"}
    assert client.post("/workflows", json={"name": "Big", "steps": [big, well]}).status_code == 201
    execution = client.post("/workflows/big/execute", json={}).json()["execution_id"]
    found = ended(client, execution, 300)
    tasks = {task["step_id"]: task for task in client.get(f"/executions/{execution}/tasks").json()["results"]}
    assert tasks["well"]["status"] == "completed"
    assert len(str(tasks["big"])) < 3 * 2**20, "cut, spilled or refused; never kept whole in a row"
    assert found["status"] in ("completed", "failed")
