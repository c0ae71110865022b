"""A27: commands inside the sandbox, run for real: what they can read and reach, what holds them, what is left."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from apps.core.errors import Invalid
from apps.executors import Options
from apps.executors.guard import Guard
from apps.executors.options import Limits
from apps.executors.process import ProcessExecutor
from apps.executors.process.sandbox import FIRST_UID, Sandbox, environment_file
from apps.workflows.services.artifacts import files_in
from tests.unit.executors.conftest import PATIENCE, Remembered
from tests.unit.executors.test_process import process_call

SECRET = "the-servers-own-signing-key"


@pytest.fixture(scope="module", autouse=True)
def _walls(tmp_path_factory):
    problem = Sandbox(Options(work_dir=tmp_path_factory.mktemp("probe"), process_steps="sandboxed")).problem
    assert not problem, problem


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data directory as the server's: a database and a key in it, which every user of the host may read."""
    (tmp_path / "db.sqlite3").write_text(SECRET)
    (tmp_path / "secret_key").write_text(SECRET)
    for name in ("SECRET_KEY", "DATABASE_URL", "VAULT_KEYS"):
        monkeypatch.setenv(name, SECRET)
    return tmp_path


@pytest.fixture
async def perform(data):
    """`result = await perform(["id"])`, sandboxed unless told otherwise."""
    guard = Guard(data / "work")

    async def run(command, *, stdin=b"", environment=None, mode="sandboxed", sink=None, artifacts="", **options):
        given = Options(process_steps=mode, work_dir=data / "work", **options)
        executor = ProcessExecutor(given, guard)
        call = process_call({"command": command, "environment": environment or {}}, stdin)
        call = replace(call, artifacts=str(artifacts))
        return await executor.run(call, sink or Remembered())

    yield run
    await asyncio.to_thread(guard.close)


def sh(script):
    return ["sh", "-c", script]


def processes_named(name):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if name in (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


async def nothing_left_of(name, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while processes_named(name):
        assert time.monotonic() < deadline, "it still runs"
        await asyncio.sleep(0.05)


async def test_it_does_what_commands_do(perform):
    result = await perform(
        sh("cat; echo aside >&2; echo '{\"n\": 1}'"), stdin=b"given\n", environment={"WHO": "it's me"}
    )
    assert result.error is None, result.error
    assert result.outputs["n"] == 1
    assert result.outputs["stdout"].startswith("given\n")
    assert (await perform(sh('printf "%s" "$WHO"'), environment={"WHO": "it's\n$(id) me"})).outputs["stdout"] == (
        "it's\n$(id) me"
    )
    assert (await perform(sh("exit 7"))).error.exit_code == 7
    assert (await perform(["no-such-program"])).error.type == "invalid"
    assert (await perform(sh("touch x; ls; pwd; echo $HOME $TMPDIR"))).outputs["stdout"] == "x\n/tmp\n/tmp /tmp\n"


async def test_a27_what_a_sandboxed_step_can_read(perform, data):
    everything = "find / \\( -path /usr -o -path /proc -o -path /dev \\) -prune -o -type f -readable -print; ls -a /"
    listed = (await perform(sh(everything + "; ls /proc | grep -c '^[0-9]'; ls /dev"))).outputs["stdout"]
    print(listed)
    assert str(data) not in listed
    for path in (data / "db.sqlite3", data / "secret_key", Path("/etc/shadow"), Path(__file__)):
        refused = await perform(["cat", str(path)])
        assert refused.error.type == "exit_code", path
        assert (await perform(["cat", str(path)], mode="trusted")).error is None, f"the control: {path} is there"
    seen = (await perform(sh("cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'; env; mount"))).outputs["stdout"]
    assert SECRET not in seen
    assert "work" not in (await perform(sh("ls / /home /root 2>&1; true"))).outputs["stdout"].split()


async def test_it_leaves_files_in_its_directory_for_them_and_nowhere_else(perform, data):
    left = data / "work" / "left"
    script = 'cd "$ORCHESTRATION_ARTIFACTS"; pwd; mkdir plots; echo 1 > a.csv; echo 2 > plots/b; ln -s /etc/shadow l'
    result = await perform(sh(f"{script}; ! ls {data}"), artifacts=left)
    assert (result.error, result.outputs["stdout"]) == (None, "/artifacts\n")
    names = {path.relative_to(left).as_posix(): path.read_text() for path in files_in(left, 10)}
    assert names == {"a.csv": "1\n", "plots/b": "2\n"}, "a link is no file"
    assert not [path for path in (data / "work").iterdir() if path.name == "command-1"]


async def test_a27_it_is_another_user_without_any_privilege(perform):
    text = (await perform(sh("id -u; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status"))).outputs["stdout"]
    uid, *rest = text.split("\n")
    assert int(uid) >= (FIRST_UID if os.geteuid() == 0 else 65534)
    assert [line.split()[-1] for line in rest if line] == ["0" * 16, "0" * 16, "1"]
    assert (await perform(sh("id -u"))).outputs["stdout"] != f"{uid}\n" or os.geteuid() != 0


async def test_a27_the_root_is_read_only_and_its_own_directory_is_not(perform):
    script = "for f in /x /usr/x /etc/x /run/x; do touch $f 2>/dev/null && echo $f; done; touch /tmp/mine && echo mine"
    assert (await perform(sh(script))).outputs["stdout"] == "mine\n"


async def test_a27_there_is_no_network_unless_it_is_allowed(perform):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        connect = ["python3", "-c", f"import socket; socket.create_connection(('127.0.0.1', {port}), 20); print('in')"]
        assert (await perform(connect)).error.type == "exit_code"
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()
        listener.settimeout(None)
        allowed = await perform(connect, sandbox_network=True)
        assert allowed.outputs["stdout"] == "in\n", allowed.error


async def test_a27_semicolons_and_newlines_are_arguments(perform):
    hostile = ["; id", "$(id)", "`id`", "a\nb", "| cat", "'", '"', "--", "*"]
    assert (await perform(["printf", "%s|", *hostile])).outputs["stdout"] == "".join(f"{one}|" for one in hostile)


async def test_a27_its_variables_reach_no_program_before_the_walls_stand(perform):
    sink = Remembered()
    await perform(["true"], environment={"LD_PRELOAD": "/nowhere/evil.so"}, sink=sink)
    assert sink.text("stderr").count("/nowhere/evil.so") == 1, "the command's own loader, and none of setpriv or bwrap"


async def test_a27_a_fork_bomb_ends_with_its_step_and_others_go_on(perform):
    bomb = asyncio.create_task(perform(sh("f() { f | f & }; f; sleep 60"), limits=Limits(processes=40)))
    await asyncio.sleep(1)
    assert (await perform(["echo", "on"])).outputs["stdout"] == "on\n"
    bomb.cancel()  # where it has not ended by itself: its own shell may find no room to fork
    with contextlib.suppress(asyncio.CancelledError):
        await bomb
    counted = await perform(
        sh("i=0; while [ $i -lt 60 ]; do sleep 60 & i=$((i+1)); done; echo all"), limits=Limits(processes=40)
    )
    assert "all" not in counted.outputs.get("stdout", "")
    assert (await perform(sh("i=0; while [ $i -lt 20 ]; do sleep 0 & i=$((i+1)); done; wait; echo all"))).error is None


@pytest.mark.parametrize("mode", ["sandboxed", "trusted"])
async def test_a27_nothing_survives_a_timeout(perform, mode, request):
    name = f"86{os.getpid()}.{mode == 'trusted'}7".replace("True", "1").replace("False", "0")
    escape = f"(setsid sh -c 'setsid sleep {name} & sleep {name}' &) & sleep {name}"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await perform(sh(escape), mode=mode)
    await nothing_left_of(name)
    running = asyncio.create_task(perform(sh(escape), mode=mode))
    deadline = time.monotonic() + PATIENCE
    while len(processes_named(name)) < 3:
        assert time.monotonic() < deadline, "the control: all three run until they are stopped"
        await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await nothing_left_of(name)


async def test_a27_in_a_sandbox_not_even_one_that_hides_survives(perform):
    name = f"87{os.getpid()}"
    result = await perform(sh(f"setsid -f env -i sleep {name}; exit 0"))
    assert result.error is None
    await nothing_left_of(name)


@pytest.mark.parametrize("mode", ["sandboxed", "trusted"])
async def test_a27_limits_hold(perform, mode):
    limits = Limits(memory_bytes=200 << 20, file_bytes=1 << 20, open_files=64, cpu_seconds=1)
    hungry = "x = bytearray(400 << 20)"
    assert "MemoryError" in (await perform(["python3", "-c", hungry], mode=mode, limits=limits)).error.message
    writes = "open('big', 'wb').write(b'x' * (2 << 20))"
    assert (await perform(["python3", "-c", writes], mode=mode, limits=limits)).error
    opens = "files = [open('/dev/null') for _ in range(100)]"
    assert "Too many open files" in (await perform(["python3", "-c", opens], mode=mode, limits=limits)).error.message
    spins = await perform(["python3", "-c", "while True: pass"], mode=mode, limits=limits)
    assert spins.error.exit_code in (128 + 24, 128 + 9)  # SIGXCPU
    for harmless in (hungry, writes, opens):
        assert (await perform(["python3", "-c", harmless], mode=mode)).error is None


async def test_what_an_administrator_shows_it_can_read(perform, tmp_path_factory):
    tools = tmp_path_factory.mktemp("tools")
    tools.chmod(0o755)
    (tools / "list.txt").write_text("shown")
    assert (await perform(["cat", str(tools / "list.txt")])).error
    assert (await perform(["cat", str(tools / "list.txt")], sandbox_read=(str(tools),))).outputs["stdout"] == "shown"


async def test_where_an_administrator_lets_it_write_it_can_and_nowhere_else(perform, tmp_path_factory):
    shared = tmp_path_factory.mktemp("shared")
    (shared / "open").mkdir()
    for path, mode in ((shared, 0o755), (shared / "open", 0o777)):
        path.chmod(mode)
    place, kept = shared / "open", shared / "open" / "kept"
    assert (await perform(sh(f"echo x > {kept}"))).error
    assert (await perform(sh(f"echo x > {kept}"), sandbox_read=(str(shared),))).error
    assert not kept.exists()
    script = f"echo x > {kept}; touch {shared}/y /usr/y; ls {shared}"
    both = {"sandbox_read": (str(shared),), "sandbox_write": (str(place),)}
    assert (await perform(sh(script), **both)).outputs["stdout"] == "open\n"
    assert (kept.read_text(), kept.stat().st_uid >= FIRST_UID or os.geteuid() != 0) == ("x\n", True)


@pytest.mark.parametrize("setting", ["sandbox_read", "sandbox_write"])
@pytest.mark.parametrize(
    "path",
    ["relative", "/", "{data}", "{data}/work/x", "{data}/db.sqlite3", "{data}/keys/..", "{link}", "/proc", "/proc/1"],
)
def test_the_servers_own_data_cannot_be_shown(tmp_path, path, setting):
    data, link = tmp_path / "data", tmp_path / "link"
    data.mkdir()
    link.symlink_to(data)
    options = {"work_dir": data / "work", "data_dir": data}
    with pytest.raises(Invalid, match=f"PROCESS_{setting.upper()}"):
        Options(**options, **{setting: (path.format(data=data, link=link),)})
    assert Options(**options, **{setting: (str(tmp_path / "tools"),)})


async def test_where_no_sandbox_can_be_built_nothing_runs_and_it_is_said_why(perform, monkeypatch, tmp_path):
    monkeypatch.setattr("apps.executors.process.sandbox.PATH", str(tmp_path))
    error = (await perform(["touch", "x"])).error
    assert (error.type, error.retryable) == ("unavailable", False)
    assert "bwrap" in error.message
    assert "apt-get install bubblewrap" in error.message


NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]


def performed_by_nobody(script, work_dir):
    """As user `nobody`, by way of user namespaces."""
    box = Sandbox(Options(work_dir=work_dir, process_steps="sandboxed", limits=Limits(processes=40)))
    box._as_root = False
    with tempfile.TemporaryDirectory(dir="/tmp") as directory, environment_file({"WHO": "me"}) as environment:
        os.chown(directory, 65534, 65534)
        line = box.command_line(["sh", "-c", script], Path(directory), environment.fileno(), 65534)
        return subprocess.run(
            [*NOBODY, *line], capture_output=True, text=True, cwd="/", timeout=60, check=False,
            pass_fds=(environment.fileno(),),
        )  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_worker_that_is_not_root_builds_the_same_walls(tmp_path):
    script = "id -u; echo $WHO; touch x && ls; touch /usr/x || cat /etc/shadow || grep CapEff /proc/self/status"
    done = performed_by_nobody(script, tmp_path / "work")
    assert done.stdout.split() == ["65534", "me", "x", "CapEff:", "0" * 16], done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a27_what_else_its_user_runs_does_not_count_among_its_processes(tmp_path):
    others = subprocess.Popen([*NOBODY, "sh", "-c", "for n in $(seq 60); do sleep 300 & done; echo; wait"],
                              stdout=subprocess.PIPE, start_new_session=True)  # fmt: skip
    try:
        others.stdout.read(1)
        started = "i=0; while [ $i -lt {} ]; do sleep 60 & i=$((i+1)); done; echo all"
        assert performed_by_nobody(started.format(20), tmp_path / "work").stdout == "all\n"
        assert performed_by_nobody(started.format(60), tmp_path / "work").stdout == "", "and its own are held"
    finally:
        os.killpg(others.pid, signal.SIGKILL)
        others.wait()
