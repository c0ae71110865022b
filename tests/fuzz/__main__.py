"""`make fuzz`: volleys of hostile requests, seed after seed, for `SECONDS` (default 600), from where the ledger ends.

Each volley meets a fresh world in a database of its own and is followed by a look at every list. The ledger is written
after each, so that a run may be stopped at any time. `SEED=N` repeats one volley and prints what was wrong.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

SIZE = 1000  # hostile literals of a volley
EXAMPLES = 2  # of schemathesis, for each operation and mode


def main():
    os.environ.update({"DJANGO_SETTINGS_MODULE": "orchestration.settings.test", "RATE_LIMIT_ENABLED": "false"})
    with tempfile.TemporaryDirectory(prefix="platform-fuzz-") as directory:
        os.environ["DATA_DIR"] = directory
        import django

        django.setup()
        return _run()


def _run():
    from tests.fuzz.ledger import Ledger

    only = os.environ.get("SEED")
    until = time.monotonic() + float(os.environ.get("SECONDS", "600"))
    ledger, bad = Ledger.read(), 0
    while True:
        seed = int(only) if only else ledger.next_seed
        report, poison = volley(seed)
        verdict = "clean" if not report.bad and not poison else "bad"
        print(
            f"seed {seed}: {report.requests} requests, {dict(sorted(report.statuses.items(), key=str))}: {verdict}",
            flush=True,
        )
        for shot, why in report.bad:
            print(f"  {shot.operation} {shot.path[:200]} {(shot.body or b'')[:200]!r}: {why}")
        for what in poison:
            print(f"  poisoned: {what}")
        bad += verdict != "clean"
        if only:
            return bad and 1
        run = {"seeds": [seed, seed], "requests": report.requests, "verdict": verdict, "of": _versions()}
        if verdict != "clean":
            run["first"] = str((report.bad or poison)[0])[:500]
        ledger.add(run, report, poison)
        ledger.write()
        if time.monotonic() > until:
            print(f"ledger: {ledger.requests} requests up to seed {ledger.next_seed - 1}")
            return 1 if bad else 0


def volley(seed):
    """One volley in a fresh database."""
    from django.conf import settings
    from django.core.cache import cache
    from django.test.utils import get_runner, setup_test_environment, teardown_test_environment

    from tests.fuzz import attack, generated
    from tests.integration.matrix import world as worlds

    runner = get_runner(settings)(verbosity=0, interactive=False)
    setup_test_environment()
    databases = runner.setup_databases()
    try:
        cache.clear()
        world, report = worlds.build(), attack.Report()
        for client in world.clients.values():
            client.raise_request_exception = False
        answer = world.clients["admin"].get("/schema", headers={"Accept": "application/vnd.oai.openapi+json"})
        document = json.loads(answer.content)
        for caller, shot in attack.volley(world, document, seed, SIZE):
            attack.send(world, caller, shot, report)
        callers = list(world.clients)
        for number, shot in enumerate(generated.shots(document, seed, world.thing("user", "own"), examples=EXAMPLES)):
            attack.send(world, callers[number % len(callers)], shot, report)
        return report, attack.poisoned(world.clients["admin"])
    finally:
        runner.teardown_databases(databases)
        teardown_test_environment()


def _versions():
    from importlib.metadata import version

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    names = ("django", "djangorestframework", "schemathesis")
    return {"commit": commit.strip(), "python": sys.version.split()[0], **{name: version(name) for name in names}}


if __name__ == "__main__":
    sys.exit(main())
