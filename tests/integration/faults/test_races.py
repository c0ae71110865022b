"""Cancels, pauses, sweeps and two different finishes of one attempt, at once from several processes and threads.

The simulation interleaves whole transactions; here they meet inside the database. Whatever order they get, each
attempt has one result, nothing begins after an acknowledged cancel, and everything ends.
"""

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time

import pytest
from django.db import DatabaseError, connection

from apps.core.errors import Conflict
from apps.workflows.models import Execution, Task
from apps.workflows.selectors.invariants import verdict
from apps.workflows.services import executions, leases
from tests.integration.conftest import noop

PERFORMERS, SECONDS, ENDS_WITHIN = 2, 4.0, 240.0

PERFORMER = """
import json, os, random, sys, threading, django
django.setup()
from django.conf import settings
settings.DATABASES["default"]["NAME"] = os.environ["CLAIM_FROM"]
from django.db import DatabaseError, connection
connection.settings_dict["NAME"] = os.environ["CLAIM_FROM"]
from apps.workflows.engine.types import Accept
from tests.integration.workflows.driver import done, failed, turn, wanted
rng, accepted, reports, twins = random.Random(sys.argv[1]), [], [], 0
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()

def once_more(reports, then=None):
    while True:
        try:
            answer = turn(reports, then)
        except DatabaseError:
            connection.close()
            continue
        for report, told in zip(reports, answer.answers):
            if isinstance(told, Accept) and hasattr(report.happening, "outputs"):
                accepted.append((str(report.task_id), dict(report.happening.outputs)))
        return answer

def finish(task, by):
    once_more([done(task, by=by)])
    connection.close()

while not stop.is_set():
    claimed = once_more(reports, wanted(4, sys.argv[1])).claimed
    reports = []
    for task in claimed:
        chance = rng.random()
        if chance < 0.3:
            twins += 1
            both = [threading.Thread(target=finish, args=(task, by)) for by in ("one", "other")]
            [thread.start() for thread in both]
            [thread.join() for thread in both]
        elif chance < 0.4:
            reports.append(failed(task))
        elif chance < 0.9:
            reports.append(done(task, by="alone"))
        else:
            reports += [done(task, by="first"), done(task, by="second")]
    if not claimed:
        stop.wait(0.02)
print(json.dumps([accepted, twins]))
"""


def workflows(make_workflow):
    again = {"max_attempts": 3, "delay": 0.1, "lost": 50}

    def step(identity, *depends_on, **values):
        return noop(identity, *depends_on, retry=again, **values)

    make_workflow([step("x"), step("y", "x")], name="Inner")
    return [
        make_workflow([step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c")], name="Diamond"),
        make_workflow([step("a"), step("each", "a", for_each=[1, 2, 3, 4], max_parallel=2), step("z", "each")]),
        make_workflow([{"id": "sub", "workflow": {"id": "inner"}}, step("b", "sub")], name="Outer"),
    ]


class People(threading.Thread):
    """Starts, cancels, pauses and resumes as fast as it is answered; remembers what was acknowledged."""

    def __init__(self, seed, made, by):
        super().__init__(daemon=True)
        self.rng, self.made, self.by = random.Random(seed), made, by
        self.started, self.cancelled, self.problems = [], [], []
        self.until = time.monotonic() + SECONDS

    def run(self):
        try:
            while time.monotonic() < self.until:
                self.act()
        except Exception as error:
            self.problems.append(repr(error))
        finally:
            connection.close()

    def act(self):
        execution = self.asked(lambda: executions.start(self.rng.choice(self.made), by=self.by))
        if execution is None:
            return
        self.started.append(execution.pk)
        time.sleep(self.rng.choice([0.0, 0.0, 0.005, 0.02, 0.05]))
        chance = self.rng.random()
        if chance < 0.5:
            if self.asked(lambda: executions.cancel(execution, by=self.by) or True):
                self.cancelled.append(execution.pk)
        elif chance < 0.8:
            self.asked(lambda: executions.pause(execution, by=self.by))
            time.sleep(0.01)
            self.asked(lambda: executions.resume(execution, by=self.by))

    @staticmethod
    def asked(call):
        """Its answer; None where it was refused. Asked again where the database broke a deadlock."""
        while True:
            try:
                return call()
            except Conflict:
                return None
            except DatabaseError:
                connection.close()


@pytest.mark.django_db(transaction=True)
def test_whatever_meets_in_the_database_has_one_outcome(make_workflow, owner):
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    environment = {**os.environ, "CLAIM_FROM": str(connection.settings_dict["NAME"])}
    performers = [
        subprocess.Popen([sys.executable, "-c", PERFORMER, f"p{number}-{seed}"], env=environment, text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for number in range(PERFORMERS)
    ]  # fmt: skip
    try:
        people = [People(seed + number, workflows(make_workflow) if not number else None, owner) for number in range(2)]
        people[1].made = people[0].made
        for one in people:
            one.start()
        deadline = time.monotonic() + ENDS_WITHIN
        while any(one.is_alive() for one in people) or Execution.objects.filter(finished_at=None).exists():
            assert time.monotonic() < deadline, list(
                Execution.objects.filter(finished_at=None).values_list("pk", "status")
            )
            with contextlib.suppress(DatabaseError):  # it lost a deadlock: as a worker, it sweeps again
                leases.reap()
            time.sleep(0.05)
        told = [json.loads(one.communicate("", timeout=ENDS_WITHIN)[0]) for one in performers]
    finally:
        for one in performers:
            one.kill()
            one.wait()
    accepted = [tuple(claim) for some, _ in told for claim in some]
    twins = sum(count for _, count in told)
    started = [pk for one in people for pk in one.started]
    cancelled = [pk for one in people for pk in one.cancelled]
    print(f"{connection.vendor}, seed {seed}: {len(started)} executions, {len(cancelled)} cancelled, {twins} twins")
    assert not [one.problems for one in people if one.problems], f"seed {seed}"
    assert not verdict(overdue=0).violations, f"seed {seed}"
    assert len({task for task, _ in accepted}) == len(accepted), "I3: of two results of one attempt one is accepted"
    kept = {str(pk): outputs for pk, outputs in Task.objects.values_list("pk", "outputs")}
    assert all(kept[task] == outputs for task, outputs in accepted), "and it is the one that is kept"
    ended = dict(Execution.objects.values_list("pk", "status"))
    assert {ended[pk] for pk in cancelled} == {"cancelled"}, "I1, I12: an acknowledged cancel is one"
    assert set(ended) >= set(started)
    assert twins > 5, "the control: attempts were finished twice at once"
    assert {"completed", "cancelled"} <= set(ended.values())
