"""Commands of the host, run for real: what goes in, what comes out, and how they fail."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from apps.executors import Options, StepCall, memory
from apps.executors.guard import Guard
from apps.executors.process import ProcessExecutor
from tests.unit.executors.conftest import PATIENCE, Remembered


@pytest.fixture
async def perform(options, sink):
    """`result = await perform(["echo", "hello"], stdin=b"…")`."""
    guard = Guard(options.work_dir)

    async def run(command, *, stdin=b"", environment=None, sink=sink, **changes):
        given = Options(
            process_steps="trusted",
            work_dir=options.work_dir,
            max_output_bytes=changes.pop("max_output_bytes", 10_000),
            max_log_bytes=changes.pop("max_log_bytes", 100_000),
        )
        object.__setattr__(given, "process_steps", changes.pop("process_steps", "trusted"))  # also what Options refuses
        config = {"command": command, "environment": environment or {}, **changes}
        return await ProcessExecutor(given, guard).run(process_call(config, stdin), sink)

    yield run
    await asyncio.to_thread(guard.close)


def process_call(config, stdin=b"") -> StepCall:
    return StepCall(
        kind="process",
        config=config,
        stdin=stdin,
        attempt=1,
        task_key="task-7",
        attempt_key="task-7:1",
        workflow_id="daily",
        execution_id="run-1",
        step_id="fetch",
    )


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


async def test_what_it_prints_is_its_outputs_and_its_log(perform, sink):
    result = await perform(["sh", "-c", "echo hello; echo aside >&2"])
    assert result.error is None
    assert result.outputs == {"stdout": "hello\n", "exit_code": 0}
    assert (sink.text("stdout"), sink.text("stderr")) == ("hello\n", "aside\n")


async def test_standard_input_arrives_whole_and_ends(perform):
    result = await perform(["wc", "-c"], stdin=b"x" * 3_000_000)
    assert result.outputs["stdout"].strip() == "3000000"
    assert (await perform(["cat"])).outputs["stdout"] == ""


@pytest.mark.parametrize("command", [["true"], ["head", "-c", "5"], ["sh", "-c", "exec <&-; sleep 0.1"]])
async def test_standard_input_may_be_left_unread(perform, command):
    assert (await perform(command, stdin=b"x" * 3_000_000)).error is None


async def test_the_last_line_may_be_an_object(perform):
    result = await perform(["printf", "%s\n", "working", '{"data": [1, 2], "stdout": "mine", "exit_code": 9}', ""])
    assert result.outputs["data"] == [1, 2]
    assert result.outputs["exit_code"] == 0
    assert result.outputs["stdout"].startswith("working\n{")


@pytest.mark.parametrize(
    "line",
    ['{"a": NaN}', '{"a": Infinity}', '{"a": 1e999}', "[1]", '{"a": 1', "{}{}", "{" * 9_000 + "}", '{"a": "\\u0000"}'],
)
async def test_what_is_no_object_is_text_only(perform, line):
    result = await perform(["printf", "%s", line])
    assert result.error is None
    assert set(result.outputs) == {"stdout", "exit_code"}
    assert result.outputs["stdout"] == line


async def test_huge_output_is_cut_and_its_last_line_still_counts(perform, sink):
    code = "print('x' * 79 + '\\n', end='') ; " * 1
    result = await perform(python(f"for _ in range(200_000): {code}\nprint('{{\"rows\": 7}}')"))
    assert result.outputs["rows"] == 7
    assert result.outputs["stdout_truncated"] is True
    assert 9_000 < len(json.dumps(result.outputs, separators=(",", ":"))) <= 10_000
    assert len(sink.text()) < 100_200
    assert "the log ends here" in sink.text()


async def test_outputs_fit_however_their_text_is_escaped(perform):
    result = await perform(python(r"print('\x01\"\u20ac' * 3000)"))
    assert result.outputs["stdout_truncated"] is True
    assert len(json.dumps(result.outputs, ensure_ascii=False, separators=(",", ":")).encode()) <= 10_000


async def test_an_object_that_is_too_large_cannot_be_recorded(perform):
    result = await perform(python("print('{\"a\": \"' + 'x' * 20_000 + '\"}')"))
    assert (result.error.type, result.error.retryable) == ("output", False)


async def test_bytes_that_are_no_text_do_no_harm(perform, sink):
    result = await perform(
        python(r"import os; os.write(1, b'a\x00\xff'); os.write(1, b'\xe2\x82'); os.write(1, b'\xac')")
    )
    assert result.outputs["stdout"] == sink.text("stdout") == "a\ufffd€"


async def test_the_log_is_live(perform):
    seen = asyncio.Event()

    class Live(Remembered):
        def log(self, stream, text):
            super().log(stream, text)
            seen.set()

    task = asyncio.ensure_future(perform(["sh", "-c", "echo first; sleep 300"], sink=Live()))
    await asyncio.wait_for(seen.wait(), PATIENCE)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_exit_code_is_told_with_the_last_line_of_stderr(perform):
    error = (await perform(["sh", "-c", "echo one >&2; echo 'no such table' >&2; exit 3"])).error
    assert (error.type, error.exit_code, error.retryable) == ("exit_code", 3, True)
    assert error.message == "The command ended with exit code 3: no such table"
    assert len((await perform(python("import sys; sys.exit('x' * 50_000)"))).error.message) < 1000


@pytest.mark.parametrize(
    ("signal", "kills", "kind", "code"),
    [
        ("TERM", [0, 1], "exit_code", 143),
        ("KILL", [0, 1], "oom", 137),
        ("KILL", [7, 7], "exit_code", 137),
        ("KILL", [None, None], "oom", 137),
        ("38", [0, 0], "exit_code", 166),
    ],
)
async def test_death_by_signal_is_told(perform, monkeypatch, signal, kills, kind, code):
    """137 is told as out of memory where the kernel has killed something for that meanwhile, or does not say."""
    told = iter(kills)
    monkeypatch.setattr("apps.executors.memory.kills", lambda: next(told))
    error = (await perform(["sh", "-c", f"kill -{signal} $$"])).error
    assert (error.type, error.exit_code) == (kind, code)
    assert ("memory" in error.message) == (kind == "oom")


@pytest.mark.parametrize(
    "command", [["no-such-command"], ["/no/such/command"], ["./here"], ["/etc/passwd"], ["/"], ["a\0b"], [""], []]
)
async def test_what_cannot_be_started_is_not_tried_again(perform, command):
    error = (await perform(command)).error
    assert (error.type, error.retryable) == ("invalid", False)


def test_the_kernel_tells_how_often_memory_ran_out():
    before = memory.kills()
    assert isinstance(before, int)
    assert memory.ran_out(before - 1) is True


async def test_a_script_without_its_interpreter_is_not_tried_again(perform, tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    error = (await perform([str(script)])).error
    assert (error.type, error.retryable) == ("invalid", False)


async def test_values_of_expressions_become_text(perform):
    result = await perform(["echo", 5, True, {"a": [1]}], environment={"N": 5})
    assert result.outputs["stdout"] == '5 true {"a":[1]}\n'
    assert (await perform(["printenv", "N"], environment={"N": 5})).outputs["stdout"] == "5\n"


@pytest.mark.parametrize("mode", ["off", "anything"])
async def test_a27_commands_are_refused_unless_trusted(perform, mode, tmp_path):
    error = (await perform(["touch", str(tmp_path / "ran")], process_steps=mode)).error
    assert (error.type, error.retryable) == ("refused", False)
    assert "PROCESS_STEPS" in error.message
    assert not (tmp_path / "ran").exists()
    assert (await perform(["touch", str(tmp_path / "ran")])).error is None
    assert (tmp_path / "ran").exists()


async def test_a27_arguments_are_never_read_by_a_shell(perform):
    hostile = ["; id", "$(id)", "`id`", "a\nb", "| cat", "'", '"', "--", "*"]
    result = await perform(["printf", "%s\\0", *hostile])
    assert result.outputs["stdout"] == "".join(hostile)
    assert (await perform(["echo hello; id"])).error.type == "invalid"


async def test_a27_nothing_of_the_servers_environment_is_seen(perform, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "of-the-server")
    monkeypatch.setenv("VAULT_KEYS", "of-the-server")
    result = await perform(["env"], environment={"OWN": "a b", "ORCHESTRATION_TASK_KEY": "forged"})
    seen = dict(line.split("=", 1) for line in result.outputs["stdout"].splitlines())
    assert "of-the-server" not in result.outputs["stdout"]
    assert set(seen) - {"PWD", "SHLVL", "_", "OLDPWD"} == {
        "PATH",
        "LANG",
        "HOME",
        "TMPDIR",
        "OWN",
        "ORCHESTRATION_RUN",
        "ORCHESTRATION_TASK_KEY",
        "ORCHESTRATION_ATTEMPT_KEY",
    }
    assert (seen["OWN"], seen["ORCHESTRATION_TASK_KEY"], seen["ORCHESTRATION_ATTEMPT_KEY"]) == (
        "a b",
        "task-7",
        "task-7:1",
    )


async def test_a27_no_descriptor_of_the_servers_is_open(perform):
    listing = python("import os; print([n for n in range(3, 200) if os.path.exists(f'/proc/self/fd/{n}')])")
    with Path(os.devnull).open() as file:
        os.set_inheritable(file.fileno(), True)
        assert (await perform(listing)).outputs["stdout"] == "[]\n"


async def test_its_directory_is_private_empty_and_removed(perform, options):
    code = "import os; d = os.getcwd(); print(d, oct(os.stat(d).st_mode)[-3:], os.listdir(), os.environ['HOME'] == d);"
    spoil = (
        "os.makedirs('a/b'); open('a/b/c', 'w').close(); os.chmod('a/b', 0); os.chmod('a', 0); os.symlink('/', 'root')"
    )
    result = await perform(python(code + spoil), stdin=b"x")
    directory, mode, empty, home = result.outputs["stdout"].split()
    assert (mode, empty, home) == ("700", "[]", "True")
    assert not Path(directory).exists()
    assert not [path for path in options.work_dir.rglob("*") if path.name.startswith("command")]
