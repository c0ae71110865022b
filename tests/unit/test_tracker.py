"""What follows from reports about work done elsewhere."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.workflows.engine import tracker
from apps.workflows.engine.graph import Graph
from apps.workflows.engine.states import EXECUTION_MOVES, TASK_MOVES, TERMINAL, Status
from apps.workflows.engine.types import TRACKER, Accept, ExecutionState, Ignore, Reject, Snapshot

NOW = datetime(2026, 1, 1, tzinfo=UTC)
S = Status


class Told:
    """An execution that takes in what was accepted, and keeps the journal."""

    def __init__(self):
        self.execution = ExecutionState()
        self.tasks = {}
        self.facts = []
        self.now = NOW

    def report(self, status, percent, step="", **more):
        self.now += timedelta(seconds=1)
        snapshot = Snapshot(graph=Graph(steps={}), execution=self.execution, tasks=self.tasks)
        told = tracker.Reported(status=S(status), percent=percent, step_id=step, **more)
        decision = tracker.report(snapshot, told, self.now)
        if isinstance(decision, Accept):
            self.execution = decision.execution
            self.tasks = {**self.tasks, **{task.step_id: task for task in decision.tasks}}
            self.facts += decision.facts
        return decision

    def kinds(self):
        return [f"{fact.type} {fact.step_id}".strip() for fact in self.facts]


@pytest.fixture
def told():
    return Told()


def test_a_first_report_begins_the_execution(told):
    told.report("in_progress", 50, message="half", data={"metadata": {"n": 1}})
    assert (told.execution.status, told.execution.percent, told.execution.message) == (S.IN_PROGRESS, 50, "half")
    assert told.execution.started_at == told.now
    assert told.execution.deadline_at == told.now + tracker.STALE_AFTER
    assert told.kinds() == ["execution.started"]
    assert told.facts[0].data["metadata"] == {"n": 1}


def test_pending_does_not_begin_it(told):
    told.report("pending", 0)
    assert told.execution.started_at is None
    assert told.facts == []


def test_a_step_in_progress_is_held_by_the_tracker(told):
    told.report("in_progress", 5, "a")
    task = told.tasks["a"]
    assert (task.lease_owner, task.fence, task.ordinal) == (TRACKER, 1, 1)
    assert task.lease_expires_at == told.now + tracker.STALE_AFTER
    told.report("waiting", 5, "a")
    assert told.tasks["a"].lease_expires_at is None
    told.report("in_progress", 5, "a")
    assert told.tasks["a"].fence == 2
    assert told.kinds() == ["execution.started", "task.started a", "task.progress a", "task.started a"]


def test_the_beginning_is_told_even_if_the_report_left_it_out(told):
    told.report("completed", 0, "a")
    assert told.kinds() == ["execution.started", "task.started a", "task.completed a"]
    assert told.tasks["a"].percent == 100
    told.report("failed", 0)
    assert told.kinds()[-1] == "execution.failed"


def test_the_mean_of_steps_counts_until_the_whole_is_told(told):
    told.report("pending", 0, "a")
    told.report("pending", 0, "b")
    told.report("in_progress", 50, "a")
    assert told.execution.percent == 25
    told.report("in_progress", 0)
    told.report("in_progress", 60, "a")
    assert told.execution.percent == 30, "zero says nothing about the whole"
    told.report("in_progress", 40)
    told.report("in_progress", 99, "a")
    assert told.execution.percent == 40


def test_steps_have_their_own_percentage_while_the_whole_is_told(told):
    told.report("in_progress", 40)
    told.report("in_progress", 99, "a")
    assert (told.execution.percent, told.tasks["a"].percent) == (40, 99)


def test_completion_takes_what_is_open_along(told):
    told.report("in_progress", 5, "a")
    told.report("waiting", 5, "b")
    told.report("failed", 5, "c")
    told.report("completed", 5)
    assert {step: task.status for step, task in told.tasks.items()} == {
        "a": S.COMPLETED,
        "b": S.SKIPPED,
        "c": S.FAILED,
    }
    assert (told.execution.open_tasks, told.execution.failed_tasks, told.execution.percent) == (0, 1, 100)
    assert told.execution.deadline_at is None
    assert told.execution.error is None


@pytest.mark.parametrize(("status", "kind"), [("failed", "reported"), ("timed_out", "timeout")])
def test_a_bad_end_says_why(told, status, kind):
    told.report("in_progress", 30, "a")
    told.report(status, 10, message="no disk")
    assert told.execution.error == {"type": kind, "message": "no disk"}
    assert told.tasks["a"].status is S.CANCELLED


def test_a36_terminal_is_final_and_its_repetition_is_nothing_new(told):
    told.report("failed", 30, message="no")
    assert isinstance(told.report("failed", 30, message="no"), Ignore)
    assert isinstance(told.report("failed", 20), Ignore)
    for status, percent, more in (("failed", 40, {}), ("failed", 30, {"message": "yes"}), ("in_progress", 30, {})):
        decision = told.report(status, percent, **more)
        assert isinstance(decision, Reject)
        assert decision.code == "terminal"
    assert told.report("in_progress", 1, "new").code == "terminal"


def test_a36_what_is_known_already_only_pushes_the_deadline(told):
    told.report("in_progress", 30, "a", message="x")
    facts = list(told.facts)
    decision = told.report("in_progress", 20, "a", message="x")
    assert isinstance(decision, Accept)
    assert told.facts == facts
    assert told.execution.deadline_at == told.now + tracker.STALE_AFTER
    told.report("in_progress", 20, "a", data={"metadata": {}})
    assert len(told.facts) == len(facts) + 1


def test_moves_that_the_law_does_not_know_are_rejected(told):
    told.report("in_progress", 5, "a")
    assert told.report("skipped", 5, "a").code == "invalid_transition"
    assert told.report("pending", 5).code == "invalid_transition"


def test_steps_are_bounded(told, monkeypatch):
    monkeypatch.setattr(tracker, "MAX_STEPS", 1)
    told.report("in_progress", 5, "a")
    assert told.report("in_progress", 5, "b").code == "too_many_steps"


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "a", "b", "c"]), st.sampled_from(sorted(TASK_MOVES)), st.floats(0, 100)),
        max_size=20,
    )
)
def test_whatever_is_reported_the_law_holds(reports):
    told = Told()
    statuses = {"": S.PENDING}
    for step, status, percent in reports:
        if not step and status not in EXECUTION_MOVES:
            continue
        before, facts = told.execution, len(told.facts)
        if isinstance(told.report(status, percent, step), Reject):
            continue
        after = told.execution
        assert after.percent >= before.percent
        assert (after.percent == 100) == (after.status is S.COMPLETED)
        assert after.open_tasks == sum(task.status not in TERMINAL for task in told.tasks.values())
        assert after.tasks_total == len(told.tasks)
        assert (after.finished_at is not None) == (after.status in TERMINAL)
        for fact in told.facts[facts:]:
            moves = TASK_MOVES if fact.step_id else EXECUTION_MOVES
            was, now = statuses.get(fact.step_id, S.PENDING), S(fact.data["status"])
            assert now is was or now in moves[was], f"{fact.step_id}: {was} → {now}"
            statuses[fact.step_id] = now
        for task in told.tasks.values():
            assert (task.lease_expires_at is not None) == (task.status is S.IN_PROGRESS)
            assert statuses[task.step_id] is task.status if task.step_id in statuses else task.status is S.PENDING
