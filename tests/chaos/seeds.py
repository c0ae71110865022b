"""`python -m tests.chaos.seeds FIRST SECONDS`: seeds of the simulation, one after the other, each a line of JSON.

On the database of `DATABASE_URL`, in a test database that is removed afterwards.
"""

import dataclasses
import json
import os
import sys
import tempfile
import time


def main():
    first, seconds = int(sys.argv[1]), float(sys.argv[2])
    os.environ["DJANGO_SETTINGS_MODULE"] = "orchestration.settings.test"
    with tempfile.TemporaryDirectory(prefix="platform-seeds-") as directory:
        os.environ["DATA_DIR"] = directory
        import django

        django.setup()
        _run(first, seconds)


def _run(first, seconds):
    from django.conf import settings
    from django.db import connection
    from django.test.utils import get_runner, setup_test_environment, teardown_test_environment

    from apps.accounts.models import Role, User
    from apps.core import bell
    from apps.workflows.services import workflows
    from tests.integration.faults.rows import wipe
    from tests.integration.faults.simulation import Simulation, prepare
    from tests.support import clock as clocks

    runner = get_runner(settings)(verbosity=0, interactive=False)
    setup_test_environment()
    databases = runner.setup_databases()
    try:
        by, boss = User.objects.create(username="by"), User.objects.create(username="boss")
        by.roles.add(Role.objects.get(name="user"))
        boss.roles.add(Role.objects.get(name="admin"))

        def make(steps, **values):
            return workflows.create({"steps": steps, **values}, by=by)

        until, seed = time.monotonic() + seconds, first
        with clocks.virtual() as clock:
            while time.monotonic() < until:
                clock.advance(-clock.seconds)
                result = Simulation(seed, clock, prepare(make, by), by, boss).run()
                print(json.dumps(dataclasses.asdict(result)), flush=True)
                wipe()
                seed += 1
    finally:
        bell.close()
        connection.close()
        runner.teardown_databases(databases)
        teardown_test_environment()


if __name__ == "__main__":
    main()
