"""A burst of events to N sockets: on this platform, by Channels' groups under the same server, and bare.

`python -m benchmarks.live.fanout REPEAT [--quick]` in the environment of an installation; its last line is JSON.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import quantiles
from typing import Any

import django

from benchmarks.host import ROOT
from benchmarks.live.burst import mark
from tests.support import postgres

SIZES = ((100, 300), (500, 60), (1000, 30))  # sockets, events of a burst: 30,000 frames each
QUICK = ((10, 30),)
ACCOUNTS = 50  # the sockets come with the tokens of so many
SINGLE = 200  # events one by one, for the time from a commit to the frame
START_SECONDS = 60.0

BY_HAND = {
    "group": [sys.executable, "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p"],
    "bare": [sys.executable, "-m", "benchmarks.live.bare"],
}

Burst = Callable[[int], None]


def run(repeat: int, *, quick: bool) -> dict[str, Any]:
    """By server the figures of each run: `{"sockets": …, "received": …}`; and the latencies of single events."""
    sizes = QUICK if quick else SIZES
    found: dict[str, Any] = {"ours": [], "group": [], "bare": []}
    for sockets, events in sizes:
        for _ in range(repeat):
            sys.stderr.write(f"  {sockets} sockets\n")
            with _ours() as (port, tokens):
                name = f"fan-{sockets}"
                at = f"{port}/progress/ws?workflow_id={name}"
                found["ours"].append(_measured(at, sockets, events, _tracker(name), tokens))
            for name, command in BY_HAND.items():
                with _by_hand(name, command) as port:
                    found[name].append(_measured(f"{port}/watch", sockets, events, _asking(port)))
    with _ours() as (port, tokens):
        found["single"] = [_single(port, tokens, 20 if quick else SINGLE) for _ in range(repeat)]
    return found


def _measured(at: str, sockets: int, events: int, burst: Burst, tokens: str | None = None) -> dict[str, Any]:
    port, path = at.split("/", 1)
    command = [sys.executable, "-m", "benchmarks.live.receiver", port, f"/{path}", str(sockets), str(events)]
    with subprocess.Popen(
        [*command, *([tokens] if tokens else [])], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as one:
        assert one.stdout is not None
        if one.stdout.readline().strip() != "ready":
            raise SystemExit("the sockets could not be opened")
        burst(events)
        told: dict[str, Any] = json.loads(one.stdout.readline())
    return {"sockets": sockets, "events": events, **told}


def _single(port: int, tokens: str, count: int) -> dict[str, float]:
    """One socket, events with a pause between them: milliseconds from the commit of each to its frame."""
    from django.db import transaction

    burst, committed = _tracker("single"), []

    def slowly(events: int) -> None:
        for _ in range(events):
            with transaction.atomic():
                transaction.on_commit(lambda: committed.append(time.monotonic()))  # before the doorbell
                burst(1)
            time.sleep(0.025)

    came = _measured(f"{port}/progress/ws?workflow_id=single", 1, count, slowly, tokens)["each"]
    late = quantiles([1000 * (b - a) for a, b in zip(committed, came, strict=True)], n=100)
    return {"p50": late[49], "p99": late[98]}


# --- servers ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _ours() -> Iterator[tuple[int, str]]:
    """The platform's server as it ships; its port, and a file with tokens."""
    port = postgres.free_port()
    with serving([sys.executable, str(ROOT / "manage.py"), "server", "--port", str(port)], port):
        yield port, str(Path(os.environ["DATA_DIR"]) / "tokens.json")


@contextlib.contextmanager
def _by_hand(name: str, command: list[str]) -> Iterator[int]:
    port = postgres.free_port()
    tail = ["benchmarks.live.group:application"] if name == "group" else []
    with serving([*command, str(port), *tail], port):
        yield port


@contextlib.contextmanager
def serving(command: list[str], port: int) -> Iterator[None]:
    """A server in a process of its own, until the block ends."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[1:4]} did not start")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
        return True
    return False


# --- bursts -----------------------------------------------------------------------------------------------------------


def _asking(port: int) -> Burst:
    def burst(events: int) -> None:
        from websockets.sync.client import connect

        with connect(f"ws://127.0.0.1:{port}/burst", compression=None) as link:
            link.send(str(events))
            time.sleep(0.05)

    return burst


def _tracker(name: str) -> Burst:
    """Reports to a tracker by one call of the service: one transaction, then the doorbell."""
    from apps.accounts.models import User
    from apps.workflows.engine.states import Status
    from apps.workflows.services import trackers

    user = User.objects.get(username="bench-0")

    def burst(events: int) -> None:
        made = [
            trackers.TrackerUpdate(workflow_id=name, status=Status.IN_PROGRESS, percent=1, message=mark())
            for _ in range(events)
        ]
        trackers.update(made, by=user)

    trackers.update([trackers.TrackerUpdate(workflow_id=name, status=Status.IN_PROGRESS, percent=1)], by=user)
    return burst


def prepare() -> None:
    """An installation with accounts, and their tokens in a file."""
    from django.core.management import call_command

    from apps.accounts import tokens
    from apps.accounts.models import Role, User

    call_command("migrate", verbosity=0)
    agent, held = Role.objects.get(name="agent"), []
    for number in range(ACCOUNTS):
        user, _ = User.objects.get_or_create(username=f"bench-{number}")
        user.roles.add(agent)
        held.append(tokens.issue(user).access_token)
    (Path(os.environ["DATA_DIR"]) / "tokens.json").write_text(json.dumps(held))


def main() -> None:
    """Run and print."""
    django.setup()
    prepare()
    print(json.dumps(run(int(sys.argv[1]), quick="--quick" in sys.argv)))


if __name__ == "__main__":
    main()
