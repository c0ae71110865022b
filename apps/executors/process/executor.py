"""Performs `process` steps: one command, one session, one private directory, and nothing left when it is over."""

import asyncio
import errno
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel

from apps.executors import guard, memory
from apps.executors.config import failed, parse
from apps.executors.logs import CappedLog
from apps.executors.options import Options
from apps.executors.process import sandbox
from apps.executors.process.config import Config as ProcessConfig
from apps.executors.process.launch import (
    ARTIFACTS,
    NotRunnable,
    command_line,
    environment_of,
    limited,
    refusal,
    standard_input,
)
from apps.executors.process.outcome import LAST_CHARACTERS, Captured, error_of, outputs_of
from apps.executors.process.sandbox import Sandbox
from apps.executors.spawn import ChildProcess, PipeReader, uninterrupted
from apps.executors.tracing import ended, span_of
from apps.executors.types import Sink, StepCall, StepResult, Stream

GRACE_SECONDS = 2.0
"""Between SIGTERM and SIGKILL."""

DRAIN_SECONDS = 1.0
"""How long the last output is waited for when all that could write it is gone."""

# What the kernel answers where another attempt would fare no better.
_NOT_RUNNABLE = frozenset({errno.E2BIG, errno.EACCES, errno.ENOENT, errno.ENOEXEC, errno.ENOTDIR, errno.ELOOP})

_OFF = (
    "Commands of the host are switched off here (PROCESS_STEPS=off). Give the step an `image` to run it in a container,"
    " use a `python` step, or have commands run in a sandbox (PROCESS_STEPS=sandboxed) or, where every author of a"
    " workflow is trusted, as the server's own user (PROCESS_STEPS=trusted)."
)


class ProcessExecutor:
    """Runs commands of the host: as the worker's user, for trusted authors only; or inside a sandbox."""

    kind = "process"
    Config: type[BaseModel] = ProcessConfig

    def __init__(self, options: Options, guard: guard.Guard) -> None:
        self._options = options
        self._guard = guard
        self._sandbox = Sandbox(options) if options.process_steps == "sandboxed" else None

    async def run(self, call: StepCall, sink: Sink) -> StepResult:
        """Perform one attempt; a cancel gives the command SIGTERM, `GRACE_SECONDS`, and SIGKILL to all it started."""
        if (refused := await self._refused()) is not None:
            return refused
        config = parse(ProcessConfig, self.kind, call.config)
        if isinstance(config, StepResult):
            return config
        log = CappedLog(sink, limit=self._options.max_log_bytes)
        try:
            with span_of("exec") as span:
                return ended(span, await self._perform(call, config, log))
        except NotRunnable as error:
            return failed("invalid", f"The command cannot be started: {error}", retryable=False)
        except OSError as error:
            return failed("unavailable", f"The command could not be run: {error.strerror or error}.")
        except Exception as error:
            return failed("error", f"The command could not be run: {error}")

    async def _refused(self) -> StepResult | None:
        """Why no command is run here at all."""
        if self._options.process_steps not in ("trusted", "sandboxed"):
            return failed("refused", _OFF, retryable=False)
        box = self._sandbox
        if box is not None and (problem := await asyncio.to_thread(lambda: box.problem)):
            return failed("unavailable", f"PROCESS_STEPS=sandboxed: {problem}.", retryable=False)
        return None

    async def close(self) -> None:
        """Nothing is kept: a command ends with its attempt."""

    async def _perform(self, call: StepCall, config: ProcessConfig, log: CappedLog) -> StepResult:
        mark = self._guard.mark("command")
        directory = self._guard.directory(mark)
        if call.artifacts:
            Path(call.artifacts).mkdir(mode=0o700)
        try:
            return await self._run_in(directory, mark, call, config, log)
        finally:
            await uninterrupted(asyncio.to_thread(guard.remove, directory))

    async def _run_in(
        self, directory: Path, mark: str, call: StepCall, config: ProcessConfig, log: CappedLog
    ) -> StepResult:
        stdout, stderr = Captured(self._options.max_output_bytes), Captured(LAST_CHARACTERS)
        with _pipe("stdout", stdout, log) as out, _pipe("stderr", stderr, log) as err:
            killed = memory.kills()
            child = self._start(directory, mark, call, config, (out, err))
            try:
                returncode = await asyncio.shield(child.exited)
            except asyncio.CancelledError:
                await child.destroy(grace=GRACE_SECONDS)
                raise
            await child.sweep()
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    await out.ended.wait()
                    await err.ended.wait()
        if returncode == 0:
            return self._completed(stdout, log)
        error = error_of(returncode, stderr, out_of_memory=memory.ran_out(killed))
        if why := refusal(returncode, stderr.text):
            raise NotRunnable(why)
        return StepResult(error=error)

    def _start(
        self, directory: Path, mark: str, call: StepCall, config: ProcessConfig, pipes: tuple[PipeReader, PipeReader]
    ) -> ChildProcess:
        with ExitStack() as stack:
            stdin = subprocess.DEVNULL
            if call.stdin:
                stdin = stack.enter_context(standard_input(call.stdin, directory)).fileno()
            environment = environment_of(call, config.environment, directory)
            passed: tuple[int, ...] = ()
            if self._sandbox is None:
                command = command_line(config.command, path=environment["PATH"], directory=directory)
            else:
                inside = {"PATH": sandbox.PATH, "HOME": sandbox.HOME, "TMPDIR": sandbox.HOME, **config.environment}
                if call.artifacts:
                    inside[ARTIFACTS] = sandbox.ARTIFACTS
                written = stack.enter_context(sandbox.environment_file({**environment, **inside}))
                program = command_line(config.command, path=inside["PATH"], directory=directory)
                passed = (written.fileno(),)
                own = [directory, *([Path(call.artifacts)] if call.artifacts else [])]
                command = self._sandbox.command_line(
                    program, directory, *passed, self._sandbox.give_away(*own), call.artifacts
                )
                environment = {"PATH": sandbox.PATH}  # of the programs that build the walls
            try:
                child = ChildProcess(
                    limited(command, self._options.limits, mark=mark),
                    mark=mark,
                    environment=environment,
                    directory=directory,
                    stdin=stdin,
                    stdout=pipes[0].write_end,
                    stderr=pipes[1].write_end,
                    pass_fds=passed,
                )
            except OSError as error:
                if error.errno in _NOT_RUNNABLE:
                    raise NotRunnable(f"{error.strerror}.") from error
                raise
        for pipe in pipes:
            pipe.handed_over()
        return child

    def _completed(self, stdout: Captured, log: CappedLog) -> StepResult:
        try:
            outputs, remark = outputs_of(stdout, self._options.max_output_bytes)
        except ValueError as error:
            return failed("output", str(error), retryable=False)
        log.log("stderr", remark)
        return StepResult(outputs=outputs)


@contextmanager
def _pipe(stream: Stream, captured: Captured, log: CappedLog) -> Iterator[PipeReader]:
    def receive(text: str) -> None:
        captured.add(text)
        log.log(stream, text)

    pipe = PipeReader(receive)
    try:
        yield pipe
    finally:
        pipe.close()
