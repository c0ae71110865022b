"""What a container step is promised on any runtime: asked of Docker's API, of Dagger, and of a real engine if there."""

import asyncio
import re
from dataclasses import replace
from secrets import token_hex

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from apps.executors.container import ContainerExecutor


async def test_standard_input_variables_and_the_last_line(runner, sink):
    script = 'read line; echo "$line $GREETING $TOKEN"; echo careful >&2; echo \'{"total": 6}\''
    result = await runner.sh(
        script, stdin=b"from before\n", environment={"GREETING": "hello"}, secrets={"TOKEN": "s3cr3t"}
    )
    assert result.error is None
    assert result.outputs == {
        "total": 6, "stdout": 'from before hello s3cr3t\n{"total": 6}\n', "exit_code": 0,
    }  # fmt: skip
    assert sink.text("stdout") == result.outputs["stdout"]
    assert sink.text("stderr") == "careful\n"


async def test_an_exit_code_is_a_failure_with_its_last_word(runner):
    error = (await runner.sh("echo ignored; echo no such table >&2; exit 3")).error
    assert (error.type, error.exit_code, error.retryable) == ("exit_code", 3, True)
    assert error.message == "The command ended with exit code 3: no such table"


async def test_an_exit_code_of_a_signal_is_told_as_well(runner):
    error = (await runner.sh("echo gone >&2; exit 143")).error
    assert (error.type, error.exit_code) == ("exit_code", 143)
    assert "gone" in error.message


async def test_a_program_that_is_not_there(runner):
    error = (await runner.run("no-such-program")).error
    assert (error.type, error.retryable) == ("invalid", False)
    assert "no-such-program" in error.message


async def test_it_does_not_read_what_it_is_given(runner):
    result = await runner.run("true", stdin=b"x" * 300_000)
    assert result.error is None


async def test_much_goes_in_and_comes_out(runner):
    result = await runner.sh("cat | wc -c", stdin=b"0123456789" * 30_000)
    assert result.outputs["stdout"].strip() == "300000"


async def test_one_step_leaves_files_to_the_next(runner, volumes):
    shared = [{"source": str(volumes), "target": "/data"}]
    assert (await runner.sh("echo 42 > /data/answer", volumes=shared)).error is None
    assert (volumes / "answer").read_text() == "42\n"
    result = await runner.run("cat", "/data/answer", volumes=shared, attempt=2)
    assert result.outputs["stdout"] == "42\n"


async def test_what_is_read_only_stays_as_it_was(runner, volumes):
    (volumes / "answer").write_text("42\n")
    shared = [{"source": str(volumes), "target": "/data", "read_only": True}]
    result = await runner.sh("cat /data/answer; echo 43 > /data/answer", volumes=shared)
    assert result.error.type == "exit_code"
    assert (volumes / "answer").read_text() == "42\n"


@pytest.mark.parametrize("source", ["/etc", "{}/../outside", "{}/link", "{}/link/deeper"])
async def test_nothing_outside_of_the_roots_is_mounted(runner, volumes, source):
    (volumes.parent / "outside" / "deeper").mkdir(parents=True)
    (volumes / "link").symlink_to(volumes.parent / "outside")
    given = [{"source": source.format(volumes), "target": "/data"}]
    error = (await runner.run("ls", "/data", volumes=given)).error
    assert (error.type, error.retryable) == ("refused", False)
    assert "VOLUME_ROOTS" in error.message


@pytest.mark.parametrize("source", ["{}/ours", "{}/ours/db.sqlite3", "{}", "{}/link"])
async def test_a27_what_holds_the_servers_own_data_is_not_mounted_though_beneath_a_root(runner, volumes, source):
    (volumes / "ours").mkdir()
    (volumes / "ours" / "db.sqlite3").write_text("everybody's")
    (volumes / "link").symlink_to(volumes / "ours")
    (volumes / "theirs").mkdir()
    runner.executor = ContainerExecutor(replace(runner.options, data_dir=volumes / "ours"))
    given = [{"source": source.format(volumes), "target": "/data"}]
    error = (await runner.run("ls", "/data", volumes=given)).error
    assert (error.type, error.retryable) == ("refused", False)
    assert "the server's own data" in error.message
    beside = [{"source": f"{volumes}/theirs", "target": "/data"}]
    assert (await runner.run("ls", "/data", volumes=beside, attempt=2)).error is None, "the control"


async def test_a_volume_that_is_not_there(runner, volumes):
    error = (await runner.run("ls", volumes=[{"source": f"{volumes}/none", "target": "/data"}])).error
    assert (error.type, error.retryable) == ("invalid", False)
    assert "make it" in error.message


async def test_a_cache_is_kept_for_the_next_step(runner):
    caches = [{"name": "packages", "target": "/cache"}]
    assert (await runner.sh("echo kept > /cache/file", caches=caches)).error is None
    result = await runner.run("cat", "/cache/file", caches=caches, attempt=2)
    assert result.outputs["stdout"] == "kept\n"


async def test_steps_that_begin_at_once_may_make_the_same_cache(runner):
    caches = [{"name": f"{token_hex(4)}-{number}", "target": f"/cache-{number}"} for number in range(4)]
    ended = await asyncio.gather(*(runner.sh("true", caches=caches, attempt=number) for number in range(1, 5)))
    assert [result.error for result in ended] == [None] * 4


async def test_a_cache_is_no_other_workflows(runner, sink):
    """Whose names, put together, read the same."""

    def of(workflow, name, script, attempt):
        call = runner.call(["sh", "-c", script], caches=[{"name": name, "target": "/cache"}], attempt=attempt)
        return runner.executor.run(replace(call, workflow_id=workflow), sink)

    unique = token_hex(4)
    assert (await of(f"daily-{unique}", "pip", "echo theirs > /cache/file", 1)).error is None
    assert (await of("daily", f"{unique}-pip", "ls /cache", 2)).outputs["stdout"] == ""
    assert (await of(f"daily-{unique}", "pip", "cat /cache/file", 3)).outputs["stdout"] == "theirs\n"


async def test_it_runs_as_the_user_that_is_named(runner):
    result = await runner.sh("id -u; id -g", user="1000:1000")
    assert result.outputs["stdout"].split() == ["1000", "1000"]


async def test_the_image_says_what_the_step_does_not(runner):
    result = await runner.run("env")
    assert "PATH=" in result.outputs["stdout"]


async def test_the_keys_to_pass_on(runner):
    lines = (await runner.run("env", attempt=7)).outputs["stdout"].splitlines()
    assert "ORCHESTRATION_TASK_KEY=0190b6a0-0000-7000-8000-000000000001" in lines
    assert "ORCHESTRATION_ATTEMPT_KEY=0190b6a0-0000-7000-8000-000000000001:7" in lines
    assert not any(line.startswith("TRACEPARENT=") for line in lines)


async def test_the_trace_goes_on_inside(runner):
    span = NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1)))
    with trace.use_span(span):
        output = (await runner.run("env")).outputs["stdout"]
    # The span is that of the exec, where this process sends its spans anywhere.
    assert re.search(rf"^TRACEPARENT=00-{0xABC:032x}-[0-9a-f]{{16}}-01$", output, re.MULTILINE)


BEATS = "trap '' TERM; while :; do echo . >> /cache/beats; sleep 0.1 & wait; done"


async def begun(runner, step, caches):
    """Wait until the command writes: by another step, for a real engine shows no processes."""
    script = "until [ -s /cache/beats ]; do sleep 0.1; done"
    looking = asyncio.create_task(runner.sh(script, caches=caches, attempt=2))
    await asyncio.wait([looking, step], return_when=asyncio.FIRST_COMPLETED)
    if step.done():
        looking.cancel()
        raise AssertionError(f"it ended before it was told to: {await step}")
    assert looking.result().error is None


async def has_ended(runner, caches):
    """Nothing writes any more, and nothing is left of it where that can be seen."""
    script = "a=$(wc -c < /cache/beats); sleep 2; echo $a $(wc -c < /cache/beats)"
    before, after = (await runner.sh(script, caches=caches, attempt=3)).outputs["stdout"].split()
    assert before == after
    await runner.until(lambda: not runner.left())


@pytest.fixture
def beats():
    return [{"name": f"beats-{token_hex(4)}", "target": "/cache"}]  # an engine keeps what it has over many runs


async def test_a_cancel_ends_it(runner, beats):
    step = asyncio.create_task(runner.sh(BEATS, caches=beats))
    await begun(runner, step, beats)
    step.cancel()
    with pytest.raises(asyncio.CancelledError):
        await step
    await has_ended(runner, beats)


async def test_a_deadline_ends_it(runner, beats):
    deadline = asyncio.timeout(None)

    async def within():
        async with deadline:
            await runner.sh(f"({BEATS}) & ({BEATS}) & wait", caches=beats)

    step = asyncio.create_task(within())
    await begun(runner, step, beats)
    deadline.reschedule(asyncio.get_running_loop().time())
    with pytest.raises(TimeoutError):
        await step
    await has_ended(runner, beats)


async def test_a27_no_shell_reads_the_words_of_a_command(runner):
    words = ["; id", "$(id)", "`id`", "a\nid", "${PATH}", "-n", "*", "'\""]
    result = await runner.run("sh", "-c", 'for word in "$@"; do echo "<$word>"; done', "it", *words)
    assert result.outputs["stdout"] == "".join(f"<{word}>\n" for word in words)


async def test_a27_the_servers_environment_is_not_seen(runner, monkeypatch):
    for name in ("SECRET_KEY", "DATABASE_URL", "VAULT_KEYS", "DAGGER_SESSION_TOKEN"):
        monkeypatch.setenv(name, f"the-servers-{name.lower()}")
    if runner.options.container_runtime == "dagger":
        monkeypatch.setenv("DAGGER_SESSION_TOKEN", runner.options.dagger_token)
    result = await runner.sh("env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'")
    shown = result.outputs["stdout"]
    assert "ORCHESTRATION_TASK_KEY" in shown
    assert "the-servers" not in shown
    assert "SESSION_TOKEN" not in shown


async def test_what_is_no_output_is_told(runner):
    result = await runner.sh("echo '{\"a\": 1}'; echo bye")
    assert result.outputs == {"stdout": '{"a": 1}\nbye\n', "exit_code": 0}


def files_below(directory):
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("user", [None, "1000:1000"])
async def test_it_leaves_files(runner, tmp_path, user):
    script = (
        'cd "$ORCHESTRATION_ARTIFACTS"; mkdir plots; echo 1,2 > report.csv; echo x > plots/a.svg; ln -s /etc/passwd l'
    )
    left = tmp_path / "made" / "left"
    given = {} if user is None else {"user": user}
    assert (await runner.sh(script, artifacts=left, **given)).error is None
    left = {name: text for name, text in files_below(left).items() if name != "l"}
    assert left == {"report.csv": "1,2\n", "plots/a.svg": "x\n"}


async def test_a_command_that_fails_leaves_files_too_and_one_without_leaves_no_directory(runner, tmp_path):
    left, none = tmp_path / "left", tmp_path / "none"
    error = (await runner.sh('echo why > "$ORCHESTRATION_ARTIFACTS/why.txt"; exit 3', artifacts=left)).error
    assert error.exit_code == 3
    assert files_below(left) == {"why.txt": "why\n"}
    assert (await runner.run("true", artifacts=none, attempt=2)).error is None
    assert not none.exists()


async def test_the_place_of_artifacts_is_no_volume(runner, volumes):
    shared = [{"source": str(volumes), "target": "/orchestration/artifacts"}]
    error = (await runner.run("true", volumes=shared)).error
    assert (error.type, error.retryable) == ("invalid", False)
    assert "/orchestration" in error.message
