"""`make chaos`: simulation, deaths at commits and storms over real processes, in turn, for `SECONDS` (default 600).

On SQLite and on private PostgreSQL servers, one of which is stopped at once and started again all the time. What was
found is added to `docs/chaos.json` part by part. Ends 1 where anything was violated.
"""

import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path

from tests.chaos.ledger import Ledger
from tests.support import postgres

ROOT = Path(__file__).resolve().parents[2]
_CUT = re.compile(r"^\.*([\w -]+), (before|after|unanswered)( commit| ring)?.*: (\d+) of (\d+) cut, (\d+) events", re.M)
RESTART_EVERY = 12.0  # seconds


def main():
    budget = float(os.environ.get("SECONDS", "600"))
    until = time.monotonic() + budget
    bad = 0
    with postgres.server() as server:
        databases = {"sqlite": "", "postgresql": server.url}
        turn = 0
        while time.monotonic() < until:
            slice_ = max(10.0, min(60.0, budget / 6))
            for database, url in databases.items():
                bad += seeds(database, url, slice_)
                bad += storm(database, url, slice_, server if url else None)
                if turn % 10 == 0:
                    bad += commits(database, url)
                if time.monotonic() > until:
                    break
            turn += 1
    ledger = Ledger.read()
    print(f"ledger: {ledger.totals}; slowest recovery {ledger.recovery_max:g} s")
    return 1 if bad else 0


def add(part, database, figures, **more):
    """Into the ledger, and onto the screen; gives how many violations there were."""
    ledger = Ledger.read()
    ledger.add(part, database, figures, versions(database), **more)
    if part == "simulation":
        ledger.next_seed[database] = ledger.next_seed.get(database, 1) + figures["seeds"]
    ledger.write()
    print(f"{part} on {database}: { {name: count for name, count in figures.items() if count} }", flush=True)
    return figures.get("violations", 0)


def seeds(database, url, seconds):
    first = Ledger.read().next_seed.get(database, 1)
    done = _python(["-m", "tests.chaos.seeds", str(first), str(seconds)], DATABASE_URL=url)
    figures = dict.fromkeys(
        ("seeds", "histories", "executions", "events", "commits", "kills", "stops", "violations"), 0
    )
    told = ""
    for line in done.stdout.splitlines():
        if not line.startswith("{"):
            continue
        one = json.loads(line)
        figures["seeds"] += 1
        figures["histories"] += 1
        for name in ("executions", "events"):
            figures[name] += one[name]
        figures["commits"] += one["counts"]["commits"]
        figures["kills"] += one["counts"]["killed"]
        figures["stops"] += one["counts"]["paused"]
        if one["violations"]:
            figures["violations"] += len(one["violations"])
            told = told or f"SIMULATION_SEED={one['seed']}: {one['violations'][0]}"
            print(told)
    if done.returncode:
        figures["violations"] += 1
        told = told or done.stderr[-400:]
        print(done.stderr[-3000:])
    return add("simulation", database, figures, first=told)


def commits(database, url):
    done = _python(["-m", "pytest", "tests/integration/faults/test_crash_at_commit.py", "-q", "-s"], DATABASE_URL=url)
    figures = dict.fromkeys(("histories", "commits_cut", "rings_cut", "kills", "events", "violations"), 0)
    for _, kind, what, cut, _, events in _CUT.findall(done.stdout):
        figures["histories"] += int(cut) + 1
        figures["rings_cut" if (what or "").strip() == "ring" else "commits_cut"] += int(cut)
        figures["kills"] += 0 if kind == "unanswered" else int(cut)
        figures["events"] += int(events)
    figures["violations"] = int(done.returncode != 0)
    if done.returncode:
        print(done.stdout[-3000:])
    return add("death at commit", database, figures, first=done.stdout[-400:])


def storm(database, url, seconds, server):
    ending, restarts = threading.Event(), []

    def restart():
        while not ending.wait(RESTART_EVERY):
            server.stop(signal.SIGQUIT)
            time.sleep(0.5)
            server.start()
            restarts.append(time.time())

    thread = threading.Thread(target=restart, daemon=True) if server else None
    with tempfile.NamedTemporaryFile() as file:
        command = [sys.executable, "manage.py", "chaos", "--seconds", str(seconds), "--json", file.name]
        if url:
            _recreate(server)
            command += ["--database-url", url.replace("/postgres", "/storm")]
        environment = {**os.environ, "DATABASE_URL": "", "DJANGO_SETTINGS_MODULE": "orchestration.settings.dev"}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("seed ") and thread:
                thread.start()
            if line.startswith(("seed", "  ")) is False and thread and thread.is_alive():
                ending.set()
        process.wait()
        ending.set()
        if thread and thread.ident:
            thread.join(60)
        text = Path(file.name).read_text()
    found = json.loads(text) if text else {"violations": ["".join(lines)[-400:] or "it did not run"]}
    figures = {**found, "histories": 1, "violations": len(found["violations"]), "database_restarts": len(restarts)}
    if found["violations"]:
        print("".join(lines)[-3000:])
    told = str((found["violations"] or [""])[0])
    return add("storm", database, figures, recovery=found.get("recovery_max", 0.0), first=told)


def _recreate(server):
    import psycopg

    with psycopg.connect(server.url, autocommit=True) as link:
        link.execute("DROP DATABASE IF EXISTS storm WITH (FORCE)")
        link.execute("CREATE DATABASE storm")


def _python(arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def versions(database):
    """Of what was tested."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    import sqlite3

    if database == "sqlite":
        engine = sqlite3.sqlite_version
    else:
        told = subprocess.run(
            [str(postgres.binary("postgres")), "--version"], capture_output=True, text=True, check=True
        )
        engine = told.stdout.split()[2]
    return {
        "commit": commit.stdout.strip(), "python": platform.python_version(), "django": version("django"),
        database: engine,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
