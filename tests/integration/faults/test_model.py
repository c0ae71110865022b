"""Hypothesis plays the services on the real database against the reference, and shrinks what goes wrong.

After every rule the rows must be those of the reference, and the invariants must hold that rows and journals show.
`HYPOTHESIS_EXAMPLES` plays more of them.
"""

import os

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from apps.core.errors import Conflict
from apps.workflows.engine.types import Accept, Completed, Failed, Ignore, Progressed, Released
from apps.workflows.models import Execution, Task
from apps.workflows.selectors.invariants import verdict
from apps.workflows.services import executions, leases
from apps.workflows.services.ledger import Report, Wanted, turn
from tests.integration.conftest import noop
from tests.integration.faults.reference import ModelExecution
from tests.integration.faults.rows import wipe

EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "12"))
LEASE = 30.0
OWNERS = ("w1", "w2", "w3")
KINDS = ("completed", "failed", "fatal", "released", "progress")


def _rules(needs=(), retries=0, delay=1.0, lost=2):
    return {"needs": tuple(needs), "retries": retries, "delay": delay, "lost": lost}


GRAPHS = {
    "diamond": {"a": _rules(), "b": _rules("a"), "c": _rules("a"), "d": _rules("bc")},
    "retries": {"a": _rules(retries=2, delay=20.0), "b": _rules("a", retries=1), "c": _rules()},
    "wide": {**{name: _rules() for name in "abc"}, "z": _rules("abc")},
}


def _steps(graph):
    return [noop(name, *rules["needs"], retry=_retry(rules)) for name, rules in graph.items()]


def _retry(rules):
    again = {"max_attempts": rules["retries"] + 1, "delay": rules["delay"]} if rules["retries"] else {}
    return {"lost": rules["lost"], **again}


class Engine(RuleBasedStateMachine):
    """What may be asked of the ledger, in any order, by several performers, with leases that run out."""

    claims = Bundle("claims")  # (execution, step, fence, owner): also those long gone
    clock = owner = workflows = None

    def __init__(self):
        super().__init__()
        self.models = {}

    @property
    def now(self):
        return self.clock.seconds

    # -- people --------------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.models) < 4)
    @rule(graph=st.sampled_from(sorted(GRAPHS)))
    def start(self, graph):
        execution = executions.start(self.workflows[graph], by=self.owner)
        self.models[execution.pk] = ModelExecution.of(GRAPHS[graph], self.now)

    @precondition(lambda self: self.models)
    @rule(data=st.data(), verb=st.sampled_from(["cancel", "pause", "resume"]))
    def ask(self, data, verb):
        identity = data.draw(st.sampled_from(sorted(self.models)))
        lawful = getattr(self.models[identity], verb)()
        try:
            getattr(executions, verb)(Execution.objects.select_related("workflow").get(pk=identity), by=self.owner)
        except Conflict as refused:
            assert not lawful, f"{verb} was refused: {refused}"
        else:
            assert lawful, f"{verb} was accepted"

    # -- performers ----------------------------------------------------------------------------------------------------

    @rule(target=claims, owner=st.sampled_from(OWNERS), slots=st.integers(1, 3))
    def claim(self, owner, slots):
        able = [(e, s) for e, model in self.models.items() for s in model.tasks if model.may_start(s, self.now)]
        suspects = [(e, s) for e, s in able if self.models[e].tasks[s].losses >= 2]
        taken = turn([], Wanted(owner=owner, slots=slots, lease_seconds=LEASE, idle=not self._holds(owner))).claimed
        assert len(taken) <= slots
        assert taken or len(able) == len(suspects), f"{able} could be taken, and nothing was"
        return self._took(taken, owner)

    def _holds(self, owner):
        return any(task.owner == owner for model in self.models.values() for task in model.tasks.values())

    def _took(self, taken, owner):
        """One of them for the bundle; each is known to the reference."""
        last = None
        for task in taken:
            fence = self.models[task.execution_id].claim(task.step_id, owner, self.now, self.now + LEASE)
            assert task.fence == fence, "I4: fencing numbers rise one by one"
            last = (task.execution_id, task.step_id, task.fence, owner)
        return last

    @rule(
        target=claims, claims_=st.lists(claims, min_size=1, max_size=4, unique=True),
        kinds=st.lists(st.sampled_from(KINDS), min_size=4, max_size=4),
        then=st.integers(0, 2), owner=st.sampled_from(OWNERS),
    )  # fmt: skip
    def report(self, claims_, kinds, then, owner):
        """Several at once, current and stale ones, and a claim in the same transaction."""
        expected, reports = [], []
        idle = not self._holds(owner)
        for claim, kind in zip(filter(None, claims_), kinds, strict=False):
            identity, step, fence, _ = claim
            reports.append(Report(task_id=self._task(identity, step), happening=_happening(step, fence, kind)))
            expected.append(self._expect(identity, step, fence, kind))
        wanted = Wanted(owner=owner, slots=then, lease_seconds=LEASE, idle=idle) if then else None
        answer = turn(reports, wanted)
        for told, wish in zip(answer.answers, expected, strict=True):
            name = "accept" if isinstance(told, Accept) else "ignore" if isinstance(told, Ignore) else "reject"
            assert name in wish, f"{told}, not {wish}"
        return self._took(answer.claimed, owner)

    def _expect(self, identity, step, fence, kind):
        model = self.models[identity]
        if kind == "progress":
            task = model.tasks[step]
            if task.fence == fence and task.status == "in_progress":
                return ("accept", "ignore")
            return (model.report(step, fence, kind, self.now),)
        words = {"fatal": "failed"}
        return (model.report(step, fence, words.get(kind, kind), self.now, retryable=kind != "fatal"),)

    def _task(self, identity, step):
        return Task.objects.values_list("pk", flat=True).get(execution=identity, step_id=step)

    @rule(owner=st.sampled_from(OWNERS))
    def beat(self, owner):
        held = [
            (identity, step, task)
            for identity, model in self.models.items()
            for step, task in model.tasks.items()
            if task.fence
        ]
        mine = [(self._task(identity, step), task.fence) for identity, step, task in held]
        answer = leases.beat(owner=owner, kind="worker", slots=3, held=mine, lease_seconds=LEASE)
        for (identity, _, task), (row, _) in zip(held, mine, strict=True):
            current = task.owner == owner and task.status == "in_progress"
            assert (row not in answer.lost) == current, "I4: only the present owner's lease is extended"
            assert (row in answer.cancel) == (current and self.models[identity].stopping)
            if current:
                task.until = self.now + LEASE

    @rule(owner=st.sampled_from(OWNERS))
    def die(self, owner):
        """Its parent saw it."""
        leases.leave(owner)
        for model in self.models.values():
            for step, task in model.tasks.items():
                if task.owner == owner:
                    model.report(step, task.fence, "lost", self.now)

    @rule(seconds=st.sampled_from([1.0, 12.0, 31.0, 100.0]))
    def time_passes(self, seconds):
        self.clock.advance(seconds)

    @rule()
    def reap(self):
        leases.reap()
        for model in self.models.values():
            model.expire(self.now)

    # -- what must hold ------------------------------------------------------------------------------------------------

    @invariant()
    def the_rows_are_those_of_the_reference(self):
        found = {}
        for identity, step, status, fence in Task.objects.values_list("execution_id", "step_id", "status", "fence"):
            found.setdefault(identity, {})[step] = (status, fence)
        for identity, model in self.models.items():
            assert found[identity] == {s: (task.status, task.fence) for s, task in model.tasks.items()}
        rows = dict(Execution.objects.values_list("pk", "status"))
        assert rows == {identity: model.status for identity, model in self.models.items()}

    @invariant()
    def the_invariants_hold(self):
        told = verdict()
        assert not told.violations, told.violations

    def teardown(self):
        for identity, model in self.models.items():
            for step, fence in model.results.items():
                outputs = Task.objects.values_list("outputs", flat=True).get(execution=identity, step_id=step)
                assert outputs == {"fence": fence}, "I3: the accepted result is the one that is kept"
        wipe(workflows=False)


def _happening(step, fence, kind):
    if kind == "completed":
        return Completed(step_id=step, fence=fence, outputs={"fence": fence})
    if kind == "released":
        return Released(step_id=step, fence=fence)
    if kind == "progress":
        return Progressed(step_id=step, fence=fence, percent=40.0, message="on")
    error = {"type": "error", "message": "no", "retryable": kind == "failed"}
    return Failed(step_id=step, fence=fence, error=error)


def test_the_engine_does_what_the_reference_says(clock, owner, make_workflow):
    class Here(Engine):
        pass

    Here.clock, Here.owner = clock, owner
    Here.workflows = {name: make_workflow(_steps(graph), name=name) for name, graph in GRAPHS.items()}
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=40, deadline=None, print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
