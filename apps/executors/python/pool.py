"""The parent's side of the child processes: starts, reuses, kills them, and turns their frames into results."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from apps.executors import memory
from apps.executors.failure import TYPES
from apps.executors.guard import Guard
from apps.executors.logs import CappedLog
from apps.executors.options import Options, without_secrets
from apps.executors.outputs import clean_text
from apps.executors.spawn import ChildProcess, PipeReader
from apps.executors.types import StepError, StepResult, Stream

MODULE = "apps.executors.python.child"
PACKAGE_ROOT = str(Path(__file__).resolve().parents[3])
READ_BYTES = 1 << 18
FRAME_SLACK = 1 << 18
"""Bytes that a frame may be longer than the outputs' limit: a piece of log in escapes, a traceback's message."""


class Broken(Exception):
    """The child is of no more use: it died, or it speaks nonsense."""


class Child:
    """One child process and the frames to and from it. Serves one call at a time."""

    def __init__(self, options: Options, guard: Guard) -> None:
        self._limit = options.max_output_bytes + FRAME_SLACK
        self._loop = asyncio.get_running_loop()
        self._sink: CappedLog | None = None
        self._answer: asyncio.Future[list[Any]] | None = None
        self._buffer = bytearray()
        self.spent = False
        self._killed_before = memory.kills()
        self._pipes = (
            PipeReader(lambda text: self._printed("stdout", text)),
            PipeReader(lambda text: self._printed("stderr", text)),
        )
        options.work_dir.mkdir(parents=True, exist_ok=True)
        self._socket, theirs = socket.socketpair()
        try:
            self.process = ChildProcess(
                [sys.executable, "-P", "-m", MODULE, str(theirs.fileno()), str(os.getpid())],
                mark=guard.mark("child"),
                environment={**without_secrets(os.environ), "PYTHONPATH": PACKAGE_ROOT},
                directory=options.work_dir,
                stdin=subprocess.DEVNULL,
                stdout=self._pipes[0].write_end,
                stderr=self._pipes[1].write_end,
                pass_fds=(theirs.fileno(),),
            )
        except BaseException:
            self._close()
            raise
        finally:
            theirs.close()
        for pipe in self._pipes:
            pipe.handed_over()
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket.fileno(), self._readable)
        self._setup: bytes | None = _frame(
            {
                "path": [entry or os.getcwd() for entry in sys.path],  # noqa: PTH109
                "python_path": os.environ.get("PYTHONPATH"),
                "limits": [options.max_output_bytes, options.max_log_bytes],
            }
        )

    async def call(self, frame: bytes, sink: CappedLog) -> list[Any]:
        """Perform one call and give its last frame. Raises Broken; after that or a cancel, `destroy` it."""
        self._sink = sink
        self._answer = self._loop.create_future()
        if self._setup is not None:
            frame, self._setup = self._setup + frame, None
        try:
            with contextlib.suppress(ConnectionError):  # it died: end-of-file tells
                await self._loop.sock_sendall(self._socket, frame)
            answer = await self._answer
            for pipe in self._pipes:
                pipe.drain()
            return answer
        finally:
            self._sink = self._answer = None

    async def destroy(self) -> None:
        """Kill it and all that its callable started; returns when nothing of it is left."""
        try:
            await self.process.destroy()
        finally:
            self._close()

    async def epitaph(self, sink: CappedLog) -> tuple[str, str]:
        """Destroy a broken child and say how it died, as an error's type and message; its last words go to `sink`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):  # end-of-file on the socket comes a moment before the exit
                await asyncio.shield(self.process.exited)
        by_itself = not self.process.alive
        self._sink = sink
        for pipe in self._pipes:
            pipe.drain()
        self._sink = None
        await self.destroy()
        code = self.process.exited.result()
        if not by_itself:
            return "error", "the callable's process closed its channel and was killed"
        if code == -9 and memory.ran_out(self._killed_before) is not False:
            return "oom", "the callable's process died (signal 9): most likely out of memory"
        return "error", f"the callable's process died ({f'signal {-code}' if code < 0 else f'exit code {code}'})"

    def _printed(self, stream: Stream, text: str) -> None:
        if self._sink is not None:
            self._sink.log(stream, text)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._break()
            return
        buffer = self._buffer
        buffer += data
        while len(buffer) >= 4:
            size = int.from_bytes(buffer[:4], "big")
            if size > self._limit:
                self._break()
                return
            if len(buffer) < 4 + size:
                return
            body = bytes(buffer[4 : 4 + size])
            del buffer[: 4 + size]
            try:
                self._received(json.loads(body))
            except (ValueError, TypeError, LookupError, RecursionError):
                self._break()
                return

    def _received(self, frame: list[Any]) -> None:
        match frame:
            case ["o" | "e" as kind, str(text)]:
                if self._sink is not None:
                    self._sink.log("stdout" if kind == "o" else "stderr", text)
            case ["p", int() | float() as percent, str(message)]:
                if self._sink is not None:
                    self._sink.progress(percent, message)
            case ["s"]:
                self.spent = True
            case ["r", dict()] | ["f", str(), str(), bool(), str()]:
                if self._answer is not None and not self._answer.done():
                    self._answer.set_result(frame)
            case _:
                raise ValueError("unknown frame")

    def _break(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Broken())

    def _close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
        for pipe in self._pipes:
            pipe.close()


class Pool:
    """At most `options.children` children, started when needed, reused while they behave, newest first."""

    def __init__(self, options: Options, guard: Guard) -> None:
        self._options = options
        self._guard = guard
        self._slots = asyncio.Semaphore(options.children)
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self._closed = False

    async def run(self, call: dict[str, Any], sink: CappedLog) -> StepResult:
        """Perform `call` (a frame as `apps.executors.python.child` describes it) when a child is free."""
        try:
            frame = _frame(call)
        except (TypeError, ValueError, RecursionError) as error:
            return _failed("invalid", f"python.with is not JSON: {error}", retryable=False)
        async with self._slots:
            try:
                child = await self._take()
            except OSError as error:
                return _failed("unavailable", f"no child process can be started: {error.strerror or error}")
            try:
                answer = await child.call(frame, sink)
            except Broken:
                kind, message = await child.epitaph(sink)
                self._all.discard(child)
                return _failed("lost", "the worker stopped") if self._closed else _failed(kind, message)
            except BaseException:
                await child.destroy()
                self._all.discard(child)
                raise
            if child.spent:
                self._all.discard(child)
                await child.destroy()
            else:
                self._idle.append(child)
        if answer[0] == "r":
            return StepResult(outputs=answer[1])
        kind = answer[1] if answer[1] in TYPES else "error"
        return _failed(kind, answer[2], retryable=answer[3], exception=answer[4])

    async def close(self) -> None:
        """Kill every child, busy or not."""
        self._closed = True
        for child in list(self._all):
            await child.destroy()
        self._all.clear()
        self._idle.clear()

    async def _take(self) -> Child:
        if self._closed:
            raise OSError(0, "the executors are closed")
        while self._idle:
            child = self._idle.pop()
            if child.process.alive:
                return child
            await child.destroy()
            self._all.discard(child)
        child = Child(self._options, self._guard)
        self._all.add(child)
        return child


def _failed(kind: str, message: str, *, retryable: bool = True, exception: str = "") -> StepResult:
    return StepResult(error=StepError(type=kind, message=clean_text(message), retryable=retryable, exception=exception))


def _frame(value: dict[str, Any]) -> bytes:
    body = json.dumps(value).encode()
    return len(body).to_bytes(4, "big") + body
