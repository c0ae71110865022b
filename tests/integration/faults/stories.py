"""Small executions that have a hard moment in them, with what somebody does to them from outside, and how they end."""

from dataclasses import dataclass, field

from apps.core.errors import Conflict
from apps.workflows.models import Execution, Task
from apps.workflows.services import approvals, executions
from tests.integration.conftest import noop
from tests.integration.faults.host import completed, failed

STOP = ("cancelled", "timed_out")


@dataclass
class Story:
    """`act` performs a task, `nudge` is what people do; both may be asked again after a crash."""

    name: str
    steps: list
    status: str = "completed"
    statuses: dict = field(default_factory=dict)  # by step; those not named end as completed
    outputs: dict = field(default_factory=dict)
    timers: float = 0.0  # seconds that it takes when nothing dies
    act: object = completed
    nudge: object = lambda execution, by, say: False
    others: list = field(default_factory=list)  # workflows that it starts
    more: dict = field(default_factory=dict)  # of its definition

    def expected(self, step):
        return self.statuses.get(step, "completed")


# --- what people do ---------------------------------------------------------------------------------------------------


def approve(execution, by, say):
    task = Task.objects.filter(execution=execution, waiting_for="approval").select_related("execution__workflow")
    if not (asked := task.first()):
        return False
    approvals.decide(asked, approved=True, by=by, reason="fine")
    say("approved")
    return True


def cancel_if(condition):
    def cancel(execution, by, say):
        execution.refresh_from_db()
        if execution.cancel_requested_at or execution.finished_at or not condition(execution):
            return False
        try:
            executions.cancel(execution, by=by)
        except Conflict:  # it ended meanwhile
            return False
        say("cancelled")
        return True

    return cancel


def always(execution):
    return True


def running(execution):
    return Task.objects.filter(execution=execution, status="in_progress").exists()


# --- what steps do ----------------------------------------------------------------------------------------------------


def failing_twice(task):
    """The first two attempts that are paid from `retries` fail."""
    if task.step_id != "flaky":
        return completed(task)
    failures = Task.objects.values_list("failures", flat=True).get(pk=task.task_id)
    return failed(task) if failures < 2 else completed(task, tried=failures + 1)


def counted(task):
    return completed(task, n=3, of=task.step_id)


def slow_once(task):
    """The first step runs on until it is told to stop."""
    return None if task.step_id == "a" else completed(task)


STORIES = [
    Story(
        "diamond",
        [noop("a"), noop("b", "a"), noop("c", "a"), noop("d", "b", "c")],
        act=counted,
        more={"outputs": [{"name": "n", "value": "${steps.d.outputs.n}"}]},
        outputs={"n": 3},
    ),
    Story(
        "retry with timer",
        [
            noop("flaky", retries=2, retry_delay=10),
            {"id": "pause", "depends_on": ["flaky"], "wait": {"seconds": 20}},
            noop("after", "pause"),
        ],
        act=failing_twice,
        timers=40.0,
    ),
    Story(
        "map",
        [
            noop("list"),
            noop("each", "list", for_each=[1, 2, 3, 4, 5], max_parallel=2),
            noop("sum", "each"),
        ],
        act=counted,
    ),
    Story(
        "sub-workflow",
        [noop("a"), {"id": "sub", "depends_on": ["a"], "workflow": {"id": "inner"}}, noop("b", "sub")],
        act=counted,
        others=[{"name": "Inner", "steps": [noop("x"), noop("y", "x")],
                 "outputs": [{"name": "n", "value": "${steps.y.outputs.n}"}]}],
        more={"outputs": [{"name": "n", "value": "${steps.sub.outputs.n}"}]},
        outputs={"n": 3},
    ),
    Story(
        "cancel at the start",
        [noop("a"), noop("b", "a"), noop("c")],
        status="cancelled",
        statuses=dict.fromkeys("abc", "cancelled"),
        nudge=cancel_if(always),
    ),
    Story(
        "cancel while it runs",
        [noop("a"), noop("b", "a"), {"id": "sub", "workflow": {"id": "inner"}}],
        status="cancelled",
        statuses=dict.fromkeys(["a", "b", "sub"], "cancelled"),
        act=slow_once,
        nudge=cancel_if(running),
        others=[{"name": "Inner", "steps": [{"id": "long", "wait": {"seconds": 5000}}]}],
    ),
    Story(
        "approval",
        [noop("a"), {"id": "ok", "depends_on": ["a"], "approval": {}}, noop("b", "ok")],
        nudge=approve,
    ),
    Story(
        "failure and its branch",
        [noop("flaky"), noop("never", "flaky"), noop("tidy", "flaky", on="failure"), noop("last", "tidy", on="always")],
        status="failed",
        statuses={"flaky": "failed", "never": "skipped"},
        act=lambda task: failed(task) if task.step_id == "flaky" else completed(task),
    ),
    Story(
        "one at a time",
        [noop("a"), {"id": "sub", "depends_on": ["a"], "workflow": {"id": "inner"}}, noop("twin", "a")],
        others=[{"name": "Inner", "steps": [noop("x")], "concurrency": {"key": "inner", "limit": 1}}],
        act=counted,
    ),
]  # fmt: skip


def open_executions():
    return Execution.objects.filter(finished_at__isnull=True)
