"""What a command is started with: its program found by name, an environment and a standard input of its own.

The command is started through `setpriv --pdeathsig KILL` and `prlimit` where these are installed (util-linux, any
Linux): about 2 ms of the 6 ms that a command costs. It dies at once with the thread that started it, so with a worker
that is killed. That holds for the command itself only, not for what it starts in turn, and not for set-uid programs,
which the kernel excepts; those are left to the guard process (`apps.executors.guard`), which comes a moment later. By
`prlimit` it bears its mark, too.
"""

import functools
import os
import re
import resource
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from apps.executors import guard
from apps.executors.options import Limits
from apps.executors.tracing import trace_environment
from apps.executors.types import StepCall

ARTIFACTS = "ORCHESTRATION_ARTIFACTS"
"""The variable that names the directory for what a command leaves."""

_LOCKS = 10  # RLIMIT_LOCKS, on every architecture; the module has no name for it
SETPRIV, PRLIMIT = Path("/usr/bin/setpriv"), Path("/usr/bin/prlimit")  # util-linux


class NotRunnable(Exception):
    """The command cannot be started, however often it is tried. The text says why."""


def environment_of(call: StepCall, own: Mapping[str, str], directory: Path) -> dict[str, str]:
    """What a command sees: its step's variables, and of the server's nothing but where programs are found.

    The directory of the server's own interpreter comes last in PATH, so that `python` is found everywhere.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    return {
        "PATH": path,
        "LANG": "C.UTF-8",
        "HOME": str(directory),
        "TMPDIR": str(directory),
        **own,
        **trace_environment(),
        "ORCHESTRATION_TASK_KEY": call.task_key,
        "ORCHESTRATION_ATTEMPT_KEY": call.attempt_key,
        **({ARTIFACTS: call.artifacts} if call.artifacts else {}),
    }


def standard_input(data: bytes, directory: Path) -> IO[bytes]:
    """A nameless file that holds `data`: a command may read it, read part of it or leave it, and nobody waits."""
    file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 the caller closes it
    try:
        file.write(data)
        file.seek(0)
    except OSError:
        file.close()
        raise
    return file


def command_line(command: Sequence[str], *, path: str, directory: Path) -> list[str]:
    """`command` with the path of its program. Raises NotRunnable where it names none that may be executed."""
    return [_program(command[0], path, directory), *command[1:]]


def limited(command: Sequence[str], limits: Limits, *, mark: str) -> list[str]:
    """What to execute so that each process of `command` is held to `limits` and bears `mark` among them."""
    prefix = _prefix(limits)
    if not prefix:
        return list(command)
    number = guard.number(mark) if _unmarked() else None
    return [*prefix, *([] if number is None else [f"--locks={number}"]), "--", *command]


def refusal(returncode: int, stderr: str) -> str:
    """Why it was not the command that ended so: its file is there, but the kernel does not execute it. Else empty."""
    found = _REFUSED.match(stderr) if returncode in (126, 127) else None
    return found[found.lastindex or 0] if found else ""


_REFUSED = re.compile(r"(?:setpriv|prlimit): failed to execute (.*)|sh: 1: exec: (.*)")


@functools.cache
def _prefix(limits: Limits) -> tuple[str, ...]:
    if sys.platform != "linux" or not os.access(SETPRIV, os.X_OK):
        return ()
    asked = {
        "data": limits.memory_bytes,
        "cpu": limits.cpu_seconds,
        "fsize": limits.file_bytes,
        "nofile": limits.open_files,
    }
    given = [f"--{name}={value}" for name, value in asked.items() if value]
    return (str(SETPRIV), "--pdeathsig", "KILL", "--", str(PRLIMIT), "--core=0", *given)


@functools.cache
def _unmarked() -> bool:
    """Whether this worker may give marks of its own: one that is itself a step's command bears another worker's."""
    return resource.getrlimit(_LOCKS)[1] == resource.RLIM_INFINITY


def _program(name: str, path: str, directory: Path) -> str:
    if os.sep in name:
        file = directory / name
        if not file.is_file():
            raise NotRunnable(f"`{name}` was not found. A relative path begins in the step's own, empty directory.")
        if not os.access(file, os.X_OK):
            raise NotRunnable(f"`{name}` is not executable.")
        return str(file)
    found = shutil.which(name, path=path)
    if found is None:
        raise NotRunnable(f"`{name}` was not found in PATH: install it on the worker's host, or give its full path.")
    return str(directory / found)
