"""A team's callables, some of them hostile."""

import asyncio
import ctypes
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from apps.executors import StepFailed

SLEEPER = [sys.executable, "-S", "-c", "import time; time.sleep(300)"]


def total(item, factor=2):
    return {"result": item * factor}


def nothing():
    return None


def who():
    return {"pid": os.getpid()}


def identity(context):
    return {name: getattr(context, name) for name in IDENTITY}


IDENTITY = ("attempt", "task_key", "attempt_key", "workflow_id", "execution_id", "step_id")


def chatter(context):
    print("one")
    context.log("two")
    print("three", end="")
    sys.stderr.write("oh\n")
    os.write(1, b"four\n")
    ctypes.CDLL(None).puts(b"five")
    subprocess.run(["echo", "six"], check=True)
    return {}


def flood():
    for _ in range(3_000):
        print("x" * 99)
    return {}


def reporting(context):
    context.progress(10, "begun")
    context.progress(60.5)
    context.progress(400, "done\x00")
    return {}


def raising():
    raise ValueError("no such\x00 day\x07 " + "y" * 5_000)


def refusing(message, **options):
    raise StepFailed(message, **options)


def exiting():
    sys.exit(3)


def dying(number):
    os.kill(os.getpid(), number)
    time.sleep(10)


def leaving(code):
    os._exit(code)


def sleeping_family(file):
    """Start a grandchild, and one that left for a session of its own; then never end."""
    children = [subprocess.Popen(SLEEPER), subprocess.Popen(SLEEPER, start_new_session=True)]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready = Path(file).with_suffix(".new")
    ready.write_text(" ".join(str(pid) for pid in (os.getpid(), *(child.pid for child in children))))
    ready.rename(file)
    time.sleep(300)


def leaving_a_stray():
    return {"pid": os.getpid(), "stray": subprocess.Popen(SLEEPER).pid}


def environment():
    return {"names": sorted(os.environ)}


def spoiling():
    os.environ["SPOILED"] = "yes"
    os.chdir("/")
    sys.stdout = None
    return {}


def surroundings():
    print("still heard")
    return {"spoiled": os.environ.get("SPOILED"), "directory": str(Path.cwd())}


def lingering_thread():
    threading.Thread(target=time.sleep, args=(300,), daemon=True).start()
    return {"pid": os.getpid()}


HOSTILE = {
    "list": [1],
    "text": "three",
    "nan": {"a": math.nan},
    "inf": {"a": [math.inf]},
    "nul": {"a": "x\x00y"},
    "nul key": {"x\x00y": 1},
    "surrogate": {"a": "\ud800"},
    "number key": {"a": {1: 2}},
    "set": {"a": {1}},
    "large": {"a": "z" * 20_000},
    "digits": {"a": 10**5_000},
}


def hostile(which):
    if which == "deep":
        value = {}
        for _ in range(70):
            value = {"a": value}
        return value
    if which == "endless":
        value = {}
        value["a"] = value
        return value
    if which == "unfolding":
        value = []
        for _ in range(60):
            value = [value, value, value]
        return {"a": value}
    return HOSTILE[which]


async def patient(context, seconds):
    context.log("waiting")
    await asyncio.sleep(seconds)
    return {"attempt": context.attempt}


async def hostile_in_loop(which):
    return hostile(which)


async def cancelling_itself():
    raise asyncio.CancelledError


async def exiting_in_loop():
    raise SystemExit(3)


def _private():
    return {}


def beating(context):
    """Say how far it is, then only that it goes on."""
    context.progress(25, "loading")
    context.heartbeat()
    context.heartbeat("still loading")
