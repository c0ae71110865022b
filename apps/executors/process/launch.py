"""What a command is started with: its program found by name, an environment and a standard input of its own.

The command is started through `setpriv --pdeathsig KILL` where that is installed (util-linux, any Linux): about 1 ms of
the 5 ms that a command costs. It dies at once with the thread that started it, so with a worker that is killed. That
holds for the command itself only, not for what it starts in turn, and not for set-uid programs, which the kernel
excepts; those are left to the guard process (`apps.executors.guard`), which comes a moment later.
"""

import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from apps.executors.tracing import trace_environment
from apps.executors.types import StepCall

SETPRIV = Path("/usr/bin/setpriv")


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
        **({"ORCHESTRATION_ARTIFACTS": call.artifacts} if call.artifacts else {}),
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
    """What to execute for `command`. Raises NotRunnable where it names no program that may be executed."""
    return [*_prefix(), _program(command[0], path, directory), *command[1:]]


def refused_by_setpriv(returncode: int, stderr: str) -> bool:
    """Whether it was not the command that ended so: its file is there, but the kernel does not execute it."""
    return returncode in (126, 127) and bool(_prefix()) and stderr.startswith("setpriv: failed to execute ")


@functools.cache
def _prefix() -> tuple[str, ...]:
    usable = sys.platform == "linux" and os.access(SETPRIV, os.X_OK)
    return (str(SETPRIV), "--pdeathsig", "KILL", "--") if usable else ()


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
