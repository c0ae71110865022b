"""A38: six processes on one database, 10,000 claims: no lock error, nothing claimed twice."""

import json
import os
import subprocess
import sys
import time

import pytest
from django.db import connection

from apps.workflows.models import Execution, Task
from apps.workflows.selectors.invariants import verdict
from apps.workflows.services import executions
from tests.integration.conftest import noop

PROCESSES, STEPS, RUNS = 6, 500, 20  # 10,000 claims

CLAIMER = """
import json, os, sys, django
django.setup()
from django.conf import settings
settings.DATABASES["default"]["NAME"] = os.environ["CLAIM_FROM"]
from django.db import DatabaseError, connection
connection.settings_dict["NAME"] = os.environ["CLAIM_FROM"]
from tests.integration.workflows.driver import done, turn, wanted
claims, errors, reports, idle = [], [], [], 0
while idle < 20:
    try:
        answer = turn(reports, wanted(8, sys.argv[1]))
    except DatabaseError as error:
        errors.append(str(error))
        continue
    claims += [(str(task.task_id), task.fence) for task in answer.claimed]
    reports = [done(task) for task in answer.claimed]
    idle = 0 if answer.claimed else idle + 1
print(json.dumps([claims, errors]))
"""


@pytest.mark.django_db(transaction=True)
def test_a38_six_processes_make_10_000_claims_without_a_lock_error_or_a_double_claim(make_workflow, owner):
    workflow = make_workflow([noop(f"s{n}") for n in range(STEPS)])
    for _ in range(RUNS):
        executions.start(workflow, by=owner)
    environment = {**os.environ, "CLAIM_FROM": str(connection.settings_dict["NAME"])}
    began = time.monotonic()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, f"p{number}"], env=environment, stdout=subprocess.PIPE, text=True
        )
        for number in range(PROCESSES)
    ]
    told = [json.loads(process.communicate(timeout=500)[0]) for process in processes]
    claims = [tuple(claim) for one, _ in told for claim in one]
    errors = [error for _, some in told for error in some]
    doubles = len(claims) - len(set(claims))
    print(
        f"{connection.vendor}: {PROCESSES} processes, {len(claims):,} claims in {time.monotonic() - began:.1f} s, "
        f"{sorted(len(one) for one, _ in told)} each: {len(errors)} lock errors, {doubles} double claims"
    )
    assert len(claims) == STEPS * RUNS
    assert not errors
    assert not doubles
    assert set(Task.objects.values_list("status", "fence")) == {("completed", 1)}
    assert not Execution.objects.exclude(status="completed").exists()
    assert sum(bool(one) for one, _ in told) >= 2, "the control: several processes took part"
    assert not verdict().violations
