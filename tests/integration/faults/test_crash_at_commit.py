"""Every process dies at every commit: before it, after it, before each doorbell; or the commit's answer is lost.

For each story a process lives through it and is killed at the n-th moment of its kind, n = 1, 2, … until it survives
its story. Another process then goes on, with nothing but the database and the clock to help it. What the first had
acknowledged must be there; the end must be that of an undisturbed run, within a lease and a sweep of it.
"""

import pytest
from django.db import DatabaseError, connection

from apps.core.errors import Conflict
from apps.workflows.models import Event, Execution, IdempotencyKey, Task
from apps.workflows.selectors.invariants import verdict
from apps.workflows.services import executions
from apps.workflows.services.requests import once
from tests.integration.faults.host import LEASE, SWEEP, Host
from tests.integration.faults.stories import STORIES, open_executions
from tests.integration.workflows.driver import check_rows
from tests.support.clock import EPOCH
from tests.support.death import Cut, Fault, in_a_fork

MANY = 400  # more moments than any story has


class Play:
    """One story, told again and again in one database."""

    def __init__(self, story, clock, tmp_path, owner, boss, make_workflow):
        self.story, self.clock, self.owner, self.boss = story, clock, owner, boss
        for other in story.others:
            make_workflow(other["steps"], **{name: value for name, value in other.items() if name != "steps"})
        self.workflow = make_workflow(story.steps, name="Story", **story.more)
        self._acknowledged = tmp_path / "acknowledged"
        self.key = ""

    def say(self, what):
        """The client has his answer: written down where no crash of ours takes it away."""
        with self._acknowledged.open("a") as file:
            file.write(what + "\n")

    def acknowledged(self):
        return self._acknowledged.read_text().split() if self._acknowledged.exists() else []

    def begin(self, key):
        self.key = key
        self._acknowledged.unlink(missing_ok=True)

    def live(self, host):
        """From the request to start it, until nothing is open."""
        start = executions.start
        answer = self._client(
            lambda: once(self.owner, self.key, "d", lambda: {"id": str(start(self.workflow, by=self.owner).pk)})
        )
        execution = Execution.objects.get(pk=answer["id"])
        self.say("started")
        for _ in range(MANY):
            if self._client(lambda: self.story.nudge(execution, self.boss, self.say)):
                continue
            if not host.round():
                if not open_executions().exists():
                    return execution
                host.chores()
                self.clock.advance(SWEEP)
        raise AssertionError(f"it never ends: {list(Task.objects.filter(execution=execution).values())}")

    def _client(self, call):
        """A client who asks again when he gets no answer."""
        try:
            return call()
        except DatabaseError:
            connection.close()
            try:
                return call()
            except Conflict:  # it was done
                return True

    def check_the_acknowledged(self):
        """I1, right after the crash: nobody has repaired anything yet."""
        said = self.acknowledged()
        if "started" not in said:
            return
        key = IdempotencyKey.objects.get(user=self.owner, key=self.key)
        execution = Execution.objects.get(pk=key.answer["id"])
        assert ("cancelled" not in said) or execution.cancel_requested_at
        assert ("approved" not in said) or Task.objects.get(execution=execution, step_id="ok").status == "completed"

    def check_the_end(self, execution):
        check_rows(execution)
        story = self.story
        assert execution.status == story.status, execution.error
        assert (execution.outputs or {}) == story.outputs
        for task in Task.objects.filter(execution=execution):
            assert task.status == story.expected(task.step_id.partition("[")[0]), task.step_id
            assert task.losses <= 1
            assert task.finished_at >= EPOCH, "every time is the database's"
        keys = IdempotencyKey.objects.filter(user=self.owner, key=self.key)
        assert keys.count() == 1
        assert not open_executions().exists()


@pytest.fixture(params=STORIES, ids=lambda story: story.name.replace(" ", "-"))
def play(request, clock, tmp_path, make_user, make_workflow, owner):
    return Play(request.param, clock, tmp_path, owner, make_user("admin"), make_workflow)


@pytest.mark.parametrize("cut", Cut, ids=lambda cut: cut.value.replace(" ", "-"))
def test_whoever_dies_at_any_commit_loses_nothing(play, cut):
    clean = Fault(cut, 0)
    with clean.installed():
        play.begin("clean")
        before = play.clock.seconds
        play.check_the_end(play.live(Host("clean", play.story.act)))
        undisturbed = play.clock.seconds - before
    moments = clean.rings if cut is Cut.BEFORE_RING else clean.commits
    assert moments >= 3, "the moments are found where they are"
    for number in range(1, MANY):
        fault = Fault(cut, number)
        play.begin(f"{cut.value} {number}")
        if not _strike(play, fault):
            break
        play.check_the_acknowledged()
        before = play.clock.seconds
        execution = play.live(Host(f"heir-{number}", play.story.act))
        took = play.clock.seconds - before
        assert took <= undisturbed + LEASE + 2 * SWEEP, f"I9: {took:g} s after {cut.value} {number}"
        play.check_the_end(execution)
    assert number > moments, f"every one of {moments} moments was cut, not only {number - 1}"
    told = verdict(overdue=0)
    assert not told.violations, told.violations
    print(f"{play.story.name}, {cut.value}: {number - 1} of {moments} cut, {Event.objects.count()} events")


def _strike(play, fault):
    """Whether the fault struck in a run of the story."""
    host = Host(f"victim-{fault.number}", play.story.act)
    if fault.cut is not Cut.UNANSWERED:

        def life():
            with fault.installed():
                play.live(host)

        return in_a_fork(life)
    with fault.installed():
        play.check_the_end(play.live(host))
    return fault.struck
