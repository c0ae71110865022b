"""The program of a child process that performs synchronous callables, one at a time, for its parent.

It speaks frames over one socket: four bytes of length (big-endian), then JSON.

- in: `{"path": sys.path, "python_path": $PYTHONPATH or null, "limits": [output bytes, log bytes]}` once, then calls
  `{"module", "attribute", "arguments", "attempt", "identity" or null}`
- out: `["o", text]` and `["e", text]` (printed), `["p", percent, message]`, and as each call's last frame
  `["r", outputs]` or `["f", type, message, retryable, class]`; before it `["s"]` where the callable left threads or
  processes running: this process must not serve another call

What a callable prints goes through the same socket, so it stays in order; what is written straight to descriptors 1
and 2 (by C code or programs it starts) is read by the parent from pipes. The process dies with its parent: by signal
where the kernel offers that, else by end-of-file. Imports are few because its start is waited for.
"""

import faulthandler
import io
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from threading import RLock, active_count
from typing import Any

from apps.executors.failure import MAX_MESSAGE, StepFailed
from apps.executors.outputs import Unrecordable, clean_text, encode
from apps.executors.python.context import Context
from apps.executors.python.messages import message_of, one_line

PIECE = 1 << 15
"""Characters of printed text in one frame."""


class Channel:
    """The socket to the parent. After a fork the new process has none: it must not speak in this one's name."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.lock = RLock()  # one for all, also for what is held back: two would wait for each other
        self.log_left = 0
        os.register_at_fork(after_in_child=self._forget)

    def receive(self) -> Any:
        """The next frame; None at end-of-file."""
        head = self._read(4)
        body = self._read(int.from_bytes(head, "big")) if head else b""
        return json.loads(body) if body else None

    def send(self, frame: list[Any]) -> None:
        """Write one frame, whole, whichever thread calls."""
        self.send_text(json.dumps(frame, ensure_ascii=False))

    def send_text(self, text: str) -> None:
        """Write one frame given as JSON text."""
        body = text.encode("utf-8", "replace")
        data = memoryview(len(body).to_bytes(4, "big") + body)
        with self.lock:
            while data and self._fd >= 0:
                data = data[os.write(self._fd, data) :]

    def log(self, kind: str, text: str) -> None:
        """Send printed text while there is room for it, and a little more, so that the parent notices the limit."""
        if self._fd < 0:
            os.write(1 if kind == "o" else 2, text.encode("utf-8", "replace"))
        for start in range(0, len(text), PIECE):
            if self.log_left < 0:
                return
            piece = text[start : start + PIECE]
            self.log_left -= len(piece)
            self.send([kind, clean_text(piece)])

    def _read(self, size: int) -> bytes:
        parts = []
        while size:
            part = os.read(self._fd, min(size, 1 << 20))
            if not part:
                return b""
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _forget(self) -> None:
        os.close(self._fd)
        self._fd = -1
        self.lock = RLock()


class Printed(io.TextIOBase):
    """`sys.stdout` or `sys.stderr` of a callable: a line is sent when it ends, the rest when flushed."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, channel: Channel, kind: str, fd: int) -> None:
        self._channel = channel
        self._kind = kind
        self._descriptor = fd
        self._pending: list[str] = []
        self.buffer = io.FileIO(fd, "w", closefd=False)
        self.other: Printed | None = None

    def write(self, text: str) -> int:
        """Take text; whole lines leave at once."""
        with self._channel.lock:
            self._pending.append(text)
            if "\n" in text or len(self._pending) > 500 or len(text) > PIECE:
                self.flush()
        return len(text)

    def flush(self) -> None:
        """Send what is held back, here and first in the other stream, so that their order stays."""
        with self._channel.lock:
            if self.other is not None:
                self.other._send()
            self._send()

    def writable(self) -> bool:
        """Always."""
        return True

    def _send(self) -> None:
        text, self._pending = "".join(self._pending), []
        if text:
            self._channel.log(self._kind, text)

    def fileno(self) -> int:
        """The descriptor beneath, for programs that the callable starts."""
        return self._descriptor


def perform(call: Mapping[str, Any], channel: Channel, stderr: Printed, limit: int) -> str:
    """Run one call and give its last frame as JSON text. Raises nothing."""
    stdout = sys.stdout
    try:
        function: Any = import_module(call["module"])
        for name in call["attribute"].split("."):
            function = getattr(function, name)
        arguments = call["arguments"]
        if call["identity"] is not None:
            arguments["context"] = Context(
                call["identity"],
                attempt=call["attempt"],
                log=lambda text: print(text, end="", file=stdout),
                progress=lambda percent, message: channel.send(["p", percent, clean_text(message[:MAX_MESSAGE])]),
            )
        outputs = function(**arguments)
        del arguments
        return f'["r",{encode({} if outputs is None else outputs, limit=limit)}]'
    except StepFailed as failed:
        failure = ["f", failed.type, one_line(failed.message), failed.retryable, "StepFailed"]
    except Unrecordable as bad:
        failure = ["f", "output", str(bad), False, ""]
    except BaseException as raised:  # a callable's sys.exit must not end the process either
        print_traceback(raised, stderr)
        failure = ["f", "error", message_of(raised), True, type(raised).__name__]
    return json.dumps(failure)


def print_traceback(raised: BaseException, stderr: Printed) -> None:
    """Write the traceback to the step's log, from the callable's own first line on."""
    import traceback

    frames = raised.__traceback__
    with suppress(Exception):  # an exception may be made so that it cannot be printed
        stderr.write("".join(traceback.format_exception(type(raised), raised, frames.tb_next if frames else None)))


def die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL when the parent's thread that started us ends; exit if it is gone already."""
    if sys.platform == "linux":
        import ctypes

        prctl = ctypes.CDLL(None).prctl
        prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
        prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: what a callable leaves behind stays our child, so that we know of it
    if os.getppid() != parent:
        os._exit(1)


def left_behind() -> bool:
    """Whether a callable left a thread or a process running. Collects those that have ended."""
    if active_count() > 1:
        return True
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def restore(directory: str, environment: Mapping[str, str]) -> None:
    """Put back what every callable shares and one may have changed."""
    os.chdir(directory)
    if dict(os.environ) != environment:
        os.environ.clear()
        os.environ.update(environment)


def main() -> None:
    """Serve calls until the parent closes the socket."""
    fd, parent = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(fd, False)
    die_with(parent)
    faulthandler.enable()
    channel = Channel(fd)
    setup = channel.receive()
    if setup is None:
        return
    sys.path[:] = setup["path"]
    os.environ.pop("PYTHONPATH", None)  # ours only led here: what the callable starts gets the server's own
    if setup["python_path"] is not None:
        os.environ["PYTHONPATH"] = setup["python_path"]
    output_limit, log_limit = setup["limits"]
    stdout, stderr = Printed(channel, "o", 1), Printed(channel, "e", 2)
    stdout.other, stderr.other = stderr, stdout
    sys.stdout, sys.stderr = stdout, stderr
    me, directory, environment = os.getpid(), os.getcwd(), dict(os.environ)  # noqa: PTH109 -- pathlib is not loaded
    while (call := channel.receive()) is not None:
        channel.log_left = log_limit
        last = perform(call, channel, stderr, output_limit)
        sys.stdout, sys.stderr = stdout, stderr  # whatever the callable put there
        stdout.flush()
        if os.getpid() != me:
            os._exit(0)  # a forked copy came back out of the callable
        restore(directory, environment)
        if left_behind():
            channel.send(["s"])
        channel.send_text(last)


if __name__ == "__main__":
    main()
