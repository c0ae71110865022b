"""The walls around a sandboxed command: bubblewrap, a user of its own, and nothing of the server's to be seen.

It sees `/usr` and what belongs to it, read-only; its private directory as `/tmp`; `/proc` and `/dev` of its own. No
network, no other process, no file of the server, no capability. Its processes end with it: they have a namespace of
their own, and the kernel kills all of one when its first process ends.

A worker that runs as root gives each command a user id that nobody else has, and needs no user namespaces. Any other
worker needs them; on the host its commands then run as the worker's own user, inside the same walls.
"""

import functools
import os
import secrets
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from apps.executors.options import Options

HOME = "/tmp"  # noqa: S108 -- inside the sandbox: the private directory
ARTIFACTS = "/artifacts"
"""Inside the sandbox: where a command leaves files."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FIRST_UID, UIDS = 1 << 30, 1 << 30
"""User ids that no directory of users gives out."""

SHARED_MEMORY = 64 << 20
_ENVIRONMENT = "/run/environment"
# The step's own variables are set by it, after every privilege is gone: `LD_PRELOAD` must reach no program before.
_SCRIPT = f'. {_ENVIRONMENT}; exec "$@"'
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_FILES = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/ssl/certs", "/etc/localtime", "/etc/passwd", "/etc/group")
_NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf")


class Sandbox:
    """How commands are started inside walls on this host."""

    def __init__(self, options: Options) -> None:
        self._shown = dict.fromkeys(options.sandbox_read, "--ro-bind")
        self._shown |= dict.fromkeys(options.sandbox_write, "--bind")
        self._network = options.sandbox_network
        self._processes = options.limits.processes
        self._as_root = os.geteuid() == 0

    @functools.cached_property
    def problem(self) -> str:
        """Why no command can be sandboxed here; empty where it can. Starts one: not for the event loop's thread."""
        needed = ("bwrap", "setpriv", "prlimit")
        if missing := [name for name in needed if shutil.which(name, path=PATH) is None]:
            return f"{' and '.join(missing)} is not installed (Debian: apt-get install bubblewrap util-linux)"
        with tempfile.TemporaryDirectory() as directory, environment_file({}) as environment:
            line = self.command_line(
                ["/bin/true"], Path(directory), environment.fileno(), self.give_away(Path(directory))
            )
            done = subprocess.run(
                line, pass_fds=(environment.fileno(),), env={"PATH": PATH}, capture_output=True, text=True, timeout=30,
                check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        if not done.returncode:
            return ""
        return f"bubblewrap cannot build it here: {done.stderr.strip()[:300] or f'exit code {done.returncode}'}"

    def give_away(self, *directories: Path) -> int:
        """Make private directories the command's own; gives the user id that it will have on the host."""
        if not self._as_root:
            return os.geteuid()
        uid = FIRST_UID + secrets.randbelow(UIDS)
        for directory in directories:
            os.chown(directory, uid, uid)
        return uid

    def command_line(
        self, command: Sequence[str], directory: Path, environment: int, uid: int, artifacts: str = ""
    ) -> list[str]:
        """What to execute for `command`. `environment` is the descriptor of an `environment_file`, to be passed on.

        The directory `artifacts` of the host is seen as `ARTIFACTS`, where one is given.
        """
        walls = ["bwrap", "--die-with-parent", "--new-session", "--hostname", "step"]
        walls += ["--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]
        walls += [] if self._network else ["--unshare-net"]
        walls += [] if self._as_root else ["--unshare-user", "--uid", "65534", "--gid", "65534"]
        walls += ["--ro-bind", "/usr", "/usr"]
        for name in _SYSTEM:
            path = Path("/") / name
            if path.is_symlink():
                walls += ["--symlink", str(path.readlink()), str(path)]
            elif path.is_dir():
                walls += ["--ro-bind", str(path), str(path)]
        for file in (*_FILES, *(_NETWORK_FILES if self._network else ())):
            walls += ["--ro-bind-try", file, file]
        walls += ["--perms", "0444", "--ro-bind-data", str(environment), _ENVIRONMENT]
        walls += ["--proc", "/proc", "--dev", "/dev", "--size", str(SHARED_MEMORY), "--tmpfs", "/dev/shm"]  # noqa: S108
        walls += ["--bind", str(directory), HOME]
        walls += ["--bind", artifacts, ARTIFACTS] if artifacts else []
        for shown, how in sorted(self._shown.items()):  # after it: one may lie below `/tmp`, or in another
            for parent in reversed(Path(shown).parents[:-1]):
                walls += ["--perms", "0755", "--dir", str(parent)]
            walls += [how, shown, shown]
        walls += ["--chdir", HOME, "--remount-ro", "/", "--cap-drop", "ALL"]
        if self._as_root:
            # bwrap enters the directory, setpriv changes the user; then all of it is gone.
            for capability in ("DAC_READ_SEARCH", "SETUID", "SETGID", "SETPCAP"):
                walls += ["--cap-add", f"CAP_{capability}"]
            walls += ["--", "setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--inh-caps=-all"]
            walls += ["--bounding-set=-all", "--no-new-privs"]
        if self._processes:  # within, where no other process counts among its user's
            walls += ["--", "prlimit", f"--nproc={self._processes}"]
        return [*walls, "--", "/bin/sh", "-c", _SCRIPT, "sh", *command]


def environment_file(variables: Mapping[str, str]) -> IO[bytes]:
    """A nameless file that sets these variables, as a shell reads it: on a command line others would see them."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 the caller closes it
    try:
        for name, value in variables.items():
            file.write(f"export {name}={shlex.quote(value)}\n".encode())
        file.seek(0)
    except OSError:
        file.close()
        raise
    return file
