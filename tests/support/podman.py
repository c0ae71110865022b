"""A private Podman with runc: its own storage, socket and settings, and images made here; nothing of the host's.

Debian's Podman 4.3 needs some help where there is neither systemd nor a registry: `vfs` storage (an overlay cannot be
laid over every file system), cgroups without systemd, `runc` in the place of `crun`, limits of open files and
processes that are allowed, and a conmon that begins in its container's directory, where Podman looks for its note that
memory ran out.
"""

import contextlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
STARTS_WITHIN = 120.0
IMAGE = "local/busybox:1"

CONMON = """#!/bin/sh
previous=
for argument in "$@"; do
    [ "$previous" = -b ] && cd "$argument"
    previous=$argument
done
exec /usr/bin/conmon "$@"
"""

REGISTRIES = """
unqualified-search-registries = ["docker.io"]
[[registry]]
location = "localhost"
insecure = true
"""

CONTAINERS = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
conmon_path = ["{directory}/conmon"]
[network]
network_backend = "cni"
"""

STORAGE = """
[storage]
driver = "vfs"
runroot = "{directory}/run"
graphroot = "{directory}/root"
"""


class NotInstalled(Exception):
    """Podman, runc or busybox is not on this machine."""


def make_rootfs(directory: Path) -> Path:
    """The files of a small Linux: busybox under all of its names."""
    if not BUSYBOX.exists():
        raise NotInstalled("busybox is not installed (Debian: apt-get install busybox-static)")
    for name in ("bin", "tmp", "etc", "proc", "dev", "sys", "data", "home/worker"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "tmp").chmod(0o1777)
    shutil.copy2(BUSYBOX, directory / "bin" / "busybox")
    listed = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in listed:
        if name != "busybox":
            (directory / "bin" / name).symlink_to("busybox")
    (directory / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\nworker:x:1000:1000::/home/worker:/bin/sh\n")
    (directory / "etc" / "group").write_text("root:x:0:\nworker:x:1000:\n")
    return directory


@dataclass(frozen=True)
class Podman:
    """A running service. `host` is what DOCKER_HOST is to be."""

    directory: Path
    environment: dict[str, str]
    process: "subprocess.Popen[bytes]"

    @property
    def host(self) -> str:
        return f"unix://{self.directory}/podman.sock"

    def run(self, *arguments: str, check: bool = True, data: bytes | None = None) -> str:
        """What `podman …` prints."""
        done = subprocess.run(
            [*_command(self.directory), *arguments], env=self.environment, input=data,
            capture_output=True, check=False, timeout=300,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    @contextlib.contextmanager
    def again(self) -> "Iterator[Podman]":
        """The service once more, after it was ended; its storage is as it was."""
        (self.directory / "podman.sock").unlink(missing_ok=True)
        service = Podman(self.directory, self.environment, _serve(self.directory, self.environment))
        try:
            _await(service)
            yield service
        finally:
            _end(service.process)

    def containers(self) -> list[dict[str, object]]:
        """Every container, running or not. One that is removed while Podman lists it is an error of the listing."""
        for _ in range(20):
            told = self.run("ps", "--all", "--format", "json", check=False)
            if told.strip():
                return json.loads(told)
            time.sleep(0.1)
        return json.loads(self.run("ps", "--all", "--format", "json"))


def _serve(directory: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    with (directory / "log").open("ab") as log:
        return subprocess.Popen(
            [*_command(directory), "system", "service", "--time=0", f"unix://{directory}/podman.sock"],
            env=environment, stdout=log, stderr=log, cwd=directory,
        )  # fmt: skip


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _command(directory: Path) -> list[str]:
    return ["podman", "--root", f"{directory}/root", "--runroot", f"{directory}/run", "--tmpdir", f"{directory}/tmp"]


@contextlib.contextmanager
def running() -> Iterator[Podman]:
    """A private service with `IMAGE` in its storage. Raises `NotInstalled`."""
    for name in ("podman", "runc", "conmon"):
        if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
            raise NotInstalled(f"{name} is not installed (Debian: apt-get install podman runc)")
    if os.geteuid() != 0:
        raise NotInstalled("containers with limits are made by root here")
    directory = Path(tempfile.mkdtemp(prefix="podman-"))  # short: the path of a socket has 107 characters at most
    try:
        (directory / "containers.conf").write_text(CONTAINERS.format(directory=directory))
        (directory / "registries.conf").write_text(REGISTRIES)
        (directory / "storage.conf").write_text(STORAGE.format(directory=directory))
        (directory / "conmon").write_text(CONMON)
        (directory / "conmon").chmod(0o755)
        environment = {
            **os.environ,
            "CONTAINERS_CONF": f"{directory}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{directory}/storage.conf",
            "CONTAINERS_REGISTRIES_CONF": f"{directory}/registries.conf",
            "HOME": str(directory),
        }
        _build(directory, environment)
        podman = Podman(directory, environment, _serve(directory, environment))
        try:
            _await(podman)
            yield podman
        finally:
            with contextlib.suppress(Exception):
                podman.run("rm", "--all", "--force", "--time", "0", check=False)
            _end(podman.process)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _build(directory: Path, environment: dict[str, str]) -> None:
    rootfs = make_rootfs(directory / "rootfs")
    archive = directory / "rootfs.tar"
    with tarfile.open(archive, "w") as file:
        file.add(rootfs, ".")
    done = subprocess.run(
        [*_command(directory), "import", "--change", "ENV=FROM_IMAGE=yes", "--change", 'CMD=["env"]',
         str(archive), IMAGE],
        env=environment, capture_output=True, check=False, timeout=300,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr.decode())


def _await(podman: Podman) -> None:
    from apps.executors.container.choice import answers

    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline:
        if podman.process.poll() is not None:
            raise RuntimeError(f"Podman ended: {(podman.directory / 'log').read_text()[-2000:]}")
        if answers(podman.host):
            return
        time.sleep(0.05)
    raise RuntimeError("Podman did not start")
