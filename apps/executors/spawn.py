"""A child process that leads its own session, watched by the event loop, and destroyed with all that it started."""

import asyncio
import codecs
import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from apps.executors import guard

Result = TypeVar("Result")

POLL_SECONDS = 0.02
READ_BYTES = 1 << 16


async def uninterrupted(work: Coroutine[Any, Any, Result]) -> Result:
    """Finish `work` whoever cancels meanwhile; the cancel is raised afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except BaseException:  # noqa: S110 -- of `work` itself: its result raises it below
            pass
    if cancelled is not None and not task.cancelled():
        raise cancelled
    return task.result()


class ChildProcess:
    """A running process. `exited` becomes its return code (negative: the signal that killed it).

    Made in the event loop's thread. Raises OSError or ValueError where the command cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        mark: str,
        environment: Mapping[str, str],
        directory: Path | None = None,
        stdin: int,
        stdout: int,
        stderr: int,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        self._mark = mark
        self._process = subprocess.Popen(
            list(command),
            env={**environment, guard.MARK: mark},
            cwd=directory,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        self.pid = self._process.pid
        loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = loop.create_future()
        try:
            pidfd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            loop.call_later(POLL_SECONDS, self._poll, loop)
        else:
            loop.add_reader(pidfd, self._on_exit, loop, pidfd)

    @property
    def alive(self) -> bool:
        """Whether it still runs, asked of the kernel and not of the loop, which may not have heard yet."""
        if self.exited.done():
            return False
        with contextlib.suppress(ChildProcessError):
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        return False

    async def destroy(self, *, grace: float = 0.0) -> None:
        """End it and all that it started: SIGTERM and `grace` seconds, then SIGKILL. Returns when they are gone."""
        await uninterrupted(self._destroy(grace))

    async def sweep(self) -> None:
        """After its exit: kill what it left running outside its group."""
        await uninterrupted(asyncio.to_thread(guard.sweep, self._mark))

    async def _destroy(self, grace: float) -> None:
        # Once it is gone, those of its descendants that threw their marks away can be found by nothing but this.
        with Found() as strays:
            if self.alive and grace > 0:
                strays.add(await asyncio.to_thread(guard.marked, self._mark, leader=self.pid))
                self._signal_group(signal.SIGTERM)
                strays.send(signal.SIGTERM, but=self.pid)
                await asyncio.wait([self.exited], timeout=grace)
            if self.alive:
                # Stopped first, so that it cannot die and orphan unmarked descendants before they were found.
                self._signal_group(signal.SIGSTOP)
                strays.add(await asyncio.to_thread(guard.marked, self._mark, leader=self.pid))
                self._signal_group(signal.SIGKILL)
            strays.send(signal.SIGKILL)
            await asyncio.shield(self.exited)
            await asyncio.to_thread(strays.gone)
        await asyncio.to_thread(guard.sweep, self._mark)

    def _signal_group(self, number: signal.Signals) -> None:
        # Not reaped yet, so the number of its group cannot have been given to another.
        if not self.exited.done():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _on_exit(self, loop: asyncio.AbstractEventLoop, pidfd: int) -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        self._reap()

    def _poll(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.alive:
            loop.call_later(POLL_SECONDS, self._poll, loop)
        else:
            self._reap()

    def _reap(self) -> None:
        self._signal_group(signal.SIGKILL)  # what its group still holds ends with it
        code = self._process.wait()
        if not self.exited.done():
            self.exited.set_result(code)


class Found:
    """Processes that were found, each by a descriptor: a number that was given to another since is never signalled."""

    def __init__(self) -> None:
        self._descriptors: dict[int, int] = {}

    def __enter__(self) -> "Found":
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)

    def add(self, pids: set[int]) -> None:
        """Remember those of `pids` that exist."""
        for pid in pids - self._descriptors.keys():
            with contextlib.suppress(AttributeError, OSError):
                self._descriptors[pid] = os.pidfd_open(pid)

    def send(self, number: signal.Signals, *, but: int = 0) -> None:
        """Signal each that lives and is not in the group `but`."""
        for pid, descriptor in self._descriptors.items():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if not but or os.getpgid(pid) != but:
                    signal.pidfd_send_signal(descriptor, number)

    def gone(self, seconds: float = 5.0) -> bool:
        """Wait until none of them runs any more; whether that was reached within `seconds`."""
        deadline, waiting = time.monotonic() + seconds, select.poll()
        left = set(self._descriptors.values())
        for descriptor in left:
            waiting.register(descriptor, select.POLLIN)
        while left and (rest := deadline - time.monotonic()) > 0:
            for descriptor, _ in waiting.poll(1000 * rest):
                waiting.unregister(descriptor)
                left.discard(descriptor)
        return not left


class PipeReader:
    """The parent's end of a pipe: its text goes to `receive` from the loop; `ended` is set at end-of-file."""

    def __init__(self, receive: Callable[[str], None]) -> None:
        self._receive = receive
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._fd, self.write_end = os.pipe()
        os.set_blocking(self._fd, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._ready)
        self._open = True
        self.ended = asyncio.Event()

    def handed_over(self) -> None:
        """The child has the write end: close ours."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def drain(self) -> None:
        """Take what is in the pipe now, at most as much as a pipe holds."""
        for _ in range(17):
            if not self._open or not self._ready():
                return

    def close(self) -> None:
        """Stop reading."""
        self.handed_over()
        if self._open:
            self._open = False
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            if rest := self._decoder.decode(b"", final=True):
                self._receive(rest)
            self.ended.set()

    def _ready(self) -> bool:
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.close()
        elif text := self._decoder.decode(data):
            self._receive(text)
        return bool(data)
