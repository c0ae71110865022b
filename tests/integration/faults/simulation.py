"""A whole installation by one seed: workers that die, pause and come back, clients, schedules, a bus that loses things.

`Simulation(seed, …).run()` has a storm and then a calm. In the storm everything may go wrong; in the calm nothing
does, and all that was begun has to end by itself, in bounded time. The seed decides everything.
"""

import hashlib
import random
import re
from dataclasses import dataclass, field

from django.db import DatabaseError, connection
from django.db.models import Sum

from apps.core.errors import Conflict
from apps.workflows.engine.types import Accept, Progressed
from apps.workflows.models import Event, Execution, IdempotencyKey, Schedule, Task
from apps.workflows.selectors.invariants import verdict
from apps.workflows.services import approvals, executions, leases, schedules
from apps.workflows.services.ledger import Report, lanes
from apps.workflows.services.requests import once
from tests.integration.conftest import noop
from tests.integration.faults.host import LEASE, SWEEP, Host, completed, failed
from tests.integration.faults.scheduler import Scheduler

FAULTS = {"killed": 0.012, "unanswered": 0.02, "dropped": 0.2, "repeated": 0.1}
_IDS = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")
POLL = 1.0  # seconds: how long a worker sleeps that nobody rings for
SILENT_AT_MOST = 250.0  # virtual seconds without a line in any journal: the longest wait of these graphs, and a lease
STEADY = {"max_attempts": 3, "delay": 5, "lost": 50}  # the storm kills without end; its budget is not what is tested


def _noop(identity, *depends_on, **values):
    return noop(identity, *depends_on, retry=STEADY, **values)


DEFINITIONS = [
    {"name": "Diamond", "steps": [_noop("a"), _noop("b", "a"), _noop("c", "a"), _noop("d", "b", "c")]},
    {"name": "Map", "steps": [_noop("l"), _noop("e", "l", for_each=[1, 2, 3, 4], max_parallel=2), _noop("s", "e")]},
    {"name": "Inner", "steps": [_noop("x"), {"id": "w", "depends_on": ["x"], "wait": {"seconds": 7}}]},
    {"name": "Outer", "steps": [_noop("a"), {"id": "in", "depends_on": ["a"], "workflow": {"id": "inner"}},
                                _noop("b", "in")]},
    {"name": "Asked", "steps": [{"id": "ok", "approval": {"timeout_seconds": 200}}, _noop("b", "ok", on="always"),
                                {"id": "sig", "wait": {"signal": "go"}, "timeout_seconds": 150}]},
    {"name": "Single", "steps": [_noop("a"), _noop("b", "a")], "concurrency": {"key": "one", "limit": 1}},
    {"name": "Branch", "steps": [_noop("a", allow_failure=True), _noop("f", "a", on="failure"), _noop("z", "f")],
     "timeout_seconds": 400},
]  # fmt: skip


class Worker(Host):
    """A performer whose steps take time and go as the seed says."""

    def __init__(self, name, simulation):
        super().__init__(name, self._perform, slots=simulation.rng.choice([1, 2, 4]))
        self.simulation = simulation
        self.rung = True
        self.poll_at = self.sweep_at = 0.0
        self._ends = {}
        self._sent = []

    def listen(self, topic):
        self.rung = self.rung or topic == "work"

    def live(self, actor):
        simulation, clock = self.simulation, self.simulation.clock
        while True:
            now = clock.seconds
            if self.rung or self.held or self.reports or now >= self.poll_at:
                self.rung, self.poll_at = False, now + POLL
                self._repeat_something()
                self.round()
            if now >= self.sweep_at:
                self.sweep_at = now + SWEEP
                self.chores()
            simulation.perhaps_pause(actor)
            actor.hand_over()

    def _perform(self, task):
        rng, now = self.simulation.rng, self.simulation.clock.seconds
        key = (task.task_id, task.fence)
        ends = self._ends.setdefault(key, now + rng.choice([0.0, 0.0, 1.0, 1.0, 3.0, 8.0, 40.0]))
        if now < ends:
            if rng.random() < 0.1:
                return Progressed(step_id=task.step_id, fence=task.fence, percent=rng.random() * 120, message="on")
            return None
        if rng.random() < 0.12:
            return failed(task, retryable=rng.random() < 0.8)
        return completed(task, by=self.name, attempt=task.fence)

    def _repeat_something(self):
        """An old report, once more: its answer had got lost, or a proxy doubled it."""
        if self._sent and self.simulation.rng.random() < self.simulation.faults.get("repeated", 0.0):
            report = self.simulation.rng.choice(self._sent)
            if report.task_id not in {one.task_id for one in self.reports}:
                self.reports.append(report)

    def heard(self, report, told):
        self.simulation.heard(report, told)
        if len(self._sent) < 20 and isinstance(report, Report):
            self._sent.append(report)


@dataclass
class Result:
    """What a run was, in figures; `digest` is equal for equal seeds."""

    seed: int
    executions: int = 0
    events: int = 0
    calm: float = 0.0
    digest: str = ""
    violations: list = field(default_factory=list)
    counts: dict = field(default_factory=dict)


class Simulation:
    """`by` starts and cancels, `boss` approves; `workflows` are those of `DEFINITIONS`."""

    def __init__(self, seed, clock, workflows, by, boss, *, moves=700):
        self.seed, self.clock, self.workflows, self.by, self.boss = seed, clock, workflows, by, boss
        self.rng = random.Random(seed)
        self.faults = dict(FAULTS)
        self.moves = moves
        self.scheduler = Scheduler(self.rng, clock, self.faults)
        self.accepted = {}  # task → the terminal result that was accepted
        self.stale = self.paused = self.born = 0
        self.promised = []  # (what, execution) that a client was told
        self.wrong = []
        self._asked = 0

    # -- the storm, and the calm ---------------------------------------------------------------------------------------

    def run(self):
        lanes.forget()  # what the history before has read is no part of this one
        with self.scheduler.installed():
            for _ in range(3):
                self._worker()
            for number in range(2):
                self._immortal(f"client-{number}", self._client)
                self._immortal(f"cron-{number}", self._cron)
            for _ in range(self.moves):
                self._move()
            self.faults.clear()
            for actor in self.scheduler.actors:
                actor.until = 0.0  # who was paused comes back, and knows nothing of it
            calm_since = self.clock.seconds
            Schedule.objects.update(paused=True, next_at=None)
            heard, heard_at = -1, self.clock.seconds
            while self._open() and self.clock.seconds - heard_at < SILENT_AT_MOST:
                for _ in range(12):
                    self._move(calm=True)
                if (lines := Execution.objects.aggregate(n=Sum("seq"))["n"]) != heard:
                    heard, heard_at = lines, self.clock.seconds
            calm = self.clock.seconds - calm_since
            for _ in range(60):
                self._move(calm=True)
        return self._judge(calm)

    def _move(self, *, calm=False):
        self._revive()
        moved = self.scheduler.step()
        if not moved or self.rng.random() < (0.25 if calm else 0.1):
            self.clock.advance(self.rng.choice([0.05, 0.3, 1.0, 1.0, 4.0] if moved else [1.0, 5.0]))
        if not calm and self.rng.random() < 0.004:
            workers = [actor for actor in self.scheduler.actors if actor.name.startswith("worker")]
            if workers:  # killed where it stands, between two commits of its own
                self.scheduler.counts["killed"] += 1
                self.scheduler.kill(self.rng.choice(workers))

    def _worker(self):
        self.born += 1
        worker = Worker(f"worker-{self.born}", self)
        self.scheduler.listeners.append(worker.listen)
        self.scheduler.spawn(worker.name, worker.live)

    def _immortal(self, name, body):
        self.scheduler.spawn(name, body)

    def _revive(self):
        """A supervisor starts another for each that died."""
        names = [actor.name for actor in self.scheduler.actors]
        for _ in range(3 - sum(name.startswith("worker") for name in names)):
            self._worker()
        for name, body in (("client", self._client), ("cron", self._cron)):
            for number in range(2):
                if f"{name}-{number}" not in names:
                    self._immortal(f"{name}-{number}", body)

    def perhaps_pause(self, actor):
        """SIGSTOP, for longer than a lease more often than not."""
        if self.faults and self.rng.random() < 0.04:
            self.paused += 1
            actor.until = self.clock.seconds + self.rng.choice([3.0, LEASE + 2, LEASE + 30])

    # -- the others ----------------------------------------------------------------------------------------------------

    def _client(self, actor):
        while True:
            actor.until = self.clock.seconds + self.rng.choice([0.0, 1.0, 5.0])
            actor.hand_over()
            try:
                self._ask() if self.faults else self._ask_for_the_last()
            except DatabaseError:
                connection.close()

    def _ask(self):
        intent = self.rng.random()
        if intent < 0.5:
            self._asked += 1
            self._start(f"{self.seed}-{self._asked}", self.rng.choice(self.workflows))
            return
        rows = list(Execution.objects.filter(finished_at=None).order_by("pk").select_related("workflow"))
        if not rows:
            return
        execution = self.rng.choice(rows)
        try:
            if intent < 0.62:
                executions.cancel(execution, by=self.by)
                self.promised.append(("cancel", execution.pk))
            elif intent < 0.7:
                executions.pause(execution, by=self.by)
            elif intent < 0.8:
                executions.signal(execution, "go", {"n": 1}, by=self.by)
                self.promised.append(("signal", execution.pk))
            else:
                self._help(execution)
        except Conflict:
            pass

    def _ask_for_the_last(self):
        """In the calm people do what they are asked for, and start nothing."""
        for execution in list(Execution.objects.filter(finished_at=None).order_by("pk").select_related("workflow")):
            try:
                self._help(execution)
            except Conflict:
                continue

    def _help(self, execution):
        if execution.status == "paused":
            executions.resume(execution, by=self.by)
        for task in Task.objects.filter(execution=execution, waiting_for="approval").select_related(
            "execution__workflow"
        ):
            approvals.decide(task, approved=True, by=self.boss)
            self.promised.append(("approve", task.pk))

    def _start(self, key, workflow):
        """As a client does: the same request with the same key, until there is an answer."""
        for _ in range(20):
            try:
                answer = once(self.by, key, key, lambda: {"id": str(executions.start(workflow, by=self.by).pk)})
            except DatabaseError:
                connection.close()
                continue
            self.promised.append(("start", answer["id"]))
            return

    def _cron(self, actor):
        while True:
            actor.until = self.clock.seconds + 1.0
            actor.hand_over()
            try:
                schedules.fire_due()
                leases.reap()
            except DatabaseError:
                connection.close()

    def heard(self, report, told):
        """What a performer was told of its report."""
        happening = report.happening
        if isinstance(told, Accept) and type(happening).__name__ == "Completed":
            before = self.accepted.setdefault(report.task_id, happening)
            if before is not happening:
                self.wrong.append(f"I3: two results of {happening.step_id} were accepted: {before} and {happening}")
        self.stale += getattr(told, "code", "") == "stale_attempt"

    # -- the judgement -------------------------------------------------------------------------------------------------

    @staticmethod
    def _open():
        return Execution.objects.filter(finished_at=None).exists()

    @staticmethod
    def _what_is_open():
        columns = ("step_id", "status", "fence", "ready_at", "waiting_for", "due_at", "lease_owner", "lease_expires_at")
        return [
            (
                row.workflow.slug, row.status, str(row.ready_at), row.held,
                [[str(value) for value in task] for task in Task.objects.filter(execution=row).values_list(*columns)],
                list(Event.objects.filter(execution=row).order_by("seq").values_list("at", "type", "step_id"))[-6:],
            )
            for row in Execution.objects.filter(finished_at=None).select_related("workflow")
        ]  # fmt: skip

    def _judge(self, calm):
        told = verdict(overdue=0)
        wrong = [f"{one.invariant}: {one.what}" for one in told.violations] + self.wrong
        if self._open():
            wrong.append(
                f"I2, I9: {SILENT_AT_MOST:g} s passed without a line, and these are open: {self._what_is_open()}"
            )
        wrong += self._broken_promises()
        for task, happening in self.accepted.items():
            row = Task.objects.filter(pk=task).first()
            if row is None or (row.status, row.outputs) != ("completed", dict(happening.outputs)):
                wrong.append(f"I1: the accepted result of {happening.step_id} is not the one that is recorded")
        counts = {**self.scheduler.counts, "paused": self.paused, "stale": self.stale}
        text = repr((self.scheduler.trace, list(self._told()), counts))
        return Result(
            seed=self.seed, executions=told.executions, events=told.events, calm=calm, violations=wrong,
            counts=counts, digest=hashlib.sha256(text.encode()).hexdigest()[:16],
        )  # fmt: skip

    @staticmethod
    def _told():
        """Every execution and every line of its journal, without ids: these alone are not the seed's."""
        for row in Execution.objects.order_by("pk").select_related("workflow"):
            lines = row.events.order_by("seq").values_list("at", "type", "step_id", "data")
            yield row.workflow.slug, row.status, [_IDS.sub("", repr(line)) for line in lines]

    def _broken_promises(self):
        """I1 and I3 of what clients were told."""
        for what, identity in self.promised:
            if what == "approve":
                if Task.objects.get(pk=identity).status not in ("completed", "cancelled"):
                    yield f"I1: an acknowledged {what} is gone"
                continue
            row = Execution.objects.filter(pk=identity).first()
            kept = row and {"cancel": row.cancel_requested_at, "signal": "go" in row.signals}.get(what, True)
            if not kept:
                yield f"I1: an acknowledged {what} is gone"
        keys = IdempotencyKey.objects.filter(user=self.by)
        asked = Execution.objects.filter(trigger="caller").count()
        if keys.count() != asked:
            yield f"I3: {keys.count()} keys, {asked} executions by them"


def prepare(make_workflow, owner):
    """The workflows of the simulation, one of them by a schedule as well."""
    made = [
        make_workflow(one["steps"], **{name: value for name, value in one.items() if name != "steps"})
        for one in DEFINITIONS
    ]
    schedules.create(made[0], schedules.Wanted(name="each minute", cron="* * * * *", overlap="allow"), by=owner)
    return [one for one in made if one.name != "Inner"]
