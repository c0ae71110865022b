"""Finds and kills whatever a step leaves running, also after its worker was killed with SIGKILL.

Every process that an executor starts carries one environment variable, the mark, and passes it on to all that it
starts in turn. A process that left its group and session, or whose parent is gone, is found by it in /proc. A command
of the host carries its mark as a number besides, in the one limit that no kernel since Linux 2.4 looks at (of file
locks): clearing the environment does not take that away. One guard process per worker holds the read end of a pipe
whose write end the worker keeps: when the worker is gone, by whatever death, the guard reads end-of-file, kills all
that bears the worker's mark and removes its directories.

This file is also the guard's program. It is run as a script without site-packages, so it may import the standard
library only. Where there is no /proc (not Linux) only process groups are killed.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

MARK = "ORCHESTRATION_RUN"
"""The variable; its value is `TOKEN/NAME`: one token per worker, one name per process started."""

_COUNT_BITS = 24
_MARKED = 1 << 60  # nobody sets a limit like this one
_LIMIT = b"Max file locks"


def number(mark: str) -> int | None:
    """The same mark as a number, for RLIMIT_LOCKS; None for one that has no count. Of `TOKEN/` it is the lowest."""
    token, _, name = mark.partition("/")
    try:
        worker, count = int(token.rpartition("-")[2], 16), int(name.rpartition("-")[2] or 0)
    except ValueError:
        return None
    return _MARKED | worker % (1 << 36) << _COUNT_BITS | count % (1 << _COUNT_BITS)


def marked(value: str, *, leader: int = 0) -> set[int]:
    """The live processes to kill: those whose mark is `value` (or begins with it, when it ends in `/`).

    Their descendants, and those of the process `leader`, belong to it too; `leader` itself does not. One that changed
    its limit *and* cleared its environment is found only so.
    """
    needle = f"\0{MARK}={value}".encode() + (b"" if value.endswith("/") else b"\0")
    as_number, shift = number(value), _COUNT_BITS if value.endswith("/") else 0
    parents: dict[int, int] = {}
    found: set[int] = set()
    for pid in _pids():
        with contextlib.suppress(OSError, ValueError):
            state, parent = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:2]
            if state in (b"Z", b"X"):
                continue
            parents[pid] = int(parent)
            if as_number is not None and _limit_of(pid) >> shift == as_number >> shift:
                found.add(pid)
                continue
            with contextlib.suppress(PermissionError):
                if needle in b"\0" + Path(f"/proc/{pid}/environ").read_bytes():
                    found.add(pid)
    family = found | {leader} - {0}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        family |= more
        grown = bool(more)
    return family - {leader, os.getpid()}


def sweep(value: str, *, leader: int = 0, seconds: float = 5.0) -> bool:
    """Kill all that is `marked` until nothing is left; whether that was reached within `seconds`."""
    deadline = time.monotonic() + seconds
    while left := marked(value, leader=leader):
        send(left, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def send(pids: set[int], number: signal.Signals) -> None:
    """Signal each of `pids` that still exists."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def remove(directory: Path) -> None:
    """Remove a tree whatever permissions a step left in it; what cannot be removed stays."""

    def open_up(_call: object, path: str, _error: object) -> None:
        with contextlib.suppress(OSError):
            Path(path).parent.chmod(0o700)
            if not Path(path).is_symlink():
                Path(path).chmod(0o700)
            if Path(path).is_dir() and not Path(path).is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                Path(path).unlink()

    shutil.rmtree(directory, onerror=open_up)
    if directory.exists():
        shutil.rmtree(directory, ignore_errors=True)


class Guard:
    """A worker's end: hands out marks and private directories, and keeps the guard process by its pipe."""

    def __init__(self, work_dir: Path) -> None:
        self._token = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._root = work_dir.absolute() / self._token
        self._root_text = str(self._root)  # a place is told for every step
        self._count = 0
        self._process: subprocess.Popen[bytes] | None = None

    def mark(self, name: str) -> str:
        """A new mark. Starts the guard process with the first one. Raises OSError where no process can be started."""
        if self._process is None:
            command = [sys.executable, "-I", "-S", __file__, f"{self._token}/", str(self._root)]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"},
                cwd="/",
                start_new_session=True,
            )
        self._count += 1
        return f"{self._token}/{name}-{self._count}"

    def directory(self, mark: str) -> Path:
        """A new private directory (mode 700) for the process with that mark. Raises OSError."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._root / mark.rpartition("/")[2]
        path.mkdir(mode=0o700)
        return path

    def place(self, name: str) -> str:
        """Where a private directory may be made that goes with the others."""
        return f"{self._root_text}/{name}"

    def close(self) -> None:
        """Let the guard process clean up and wait for its end, at most 10 s."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _limit_of(pid: int) -> int:
    """Its limit of file locks; 0 where there is none."""
    limit = Path(f"/proc/{pid}/limits").read_bytes().partition(_LIMIT)[2].split(None, 1)[:1]
    return int(limit[0]) if limit and limit[0].isdigit() else 0


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 -- twice as fast
    except OSError:
        return []


def _main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a service manager stops everybody at once; ours is to be the last
    mark, root = sys.argv[1:3]
    while os.read(0, 1):
        pass
    sweep(mark, seconds=30.0)
    remove(Path(root))


if __name__ == "__main__":
    _main()
