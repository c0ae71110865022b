"""What a process of ours does about its parent and its port before it begins."""

import ctypes
import errno
import fcntl
import os
import signal
import socket
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies, whatever kills it (Linux; elsewhere nothing happens)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() == 1 and os.environ.get("PLATFORM_SUPERVISED"):
        os.kill(os.getpid(), signal.SIGTERM)  # it died before we asked


def between(low: int, high: int) -> Callable[[str], int]:
    """For options of commands: a whole number within these, both included; else it names the option and the range."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r} is no whole number") from None
        if not low <= value <= high:
            raise ArgumentTypeError(f"{value} is not within {low} to {high}")
        return value

    return read


def why_not(host: str, port: int) -> str:
    """Why no server may listen there, with the fix; empty where one may."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            match error.errno:
                case errno.EADDRINUSE:
                    return f"port {port} on {host} is taken; set PORT to a free one, or stop what listens there"
                case errno.EACCES:
                    return f"port {port} on {host} is not for this user; set PORT to one above 1023"
            fix = "set HOST to an address of this host, such as 127.0.0.1 or 0.0.0.0"
            return f"nothing can listen on {host} ({error.strerror or type(error).__name__}); {fix}"
    return ""


def free_port() -> int:
    """A port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def alone(directory: Path) -> IO[str] | None:
    """The lock of the only server process over `directory`, held while what is returned is kept; `None`: taken."""
    file = (directory / "server.lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
