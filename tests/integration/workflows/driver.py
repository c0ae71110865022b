"""A performer without executors: takes turns, and says of each task what the test wants."""

from apps.workflows.engine.types import Accept, Completed, Failed
from apps.workflows.models import Event, Task
from apps.workflows.services.ledger import Report, Wanted, turn


def wanted(slots=16, owner="w1", lease=30.0, **values):
    return Wanted(owner=owner, slots=slots, lease_seconds=lease, **values)


def claim(slots=16, **values):
    """Claimed tasks by step."""
    return {task.step_id: task for task in turn([], wanted(slots, **values)).claimed}


def done(task, **outputs):
    return Report(task_id=task.task_id, happening=Completed(step_id=task.step_id, fence=task.fence, outputs=outputs))


def failed(task, **error):
    error = {"type": "error", "message": "no", "retryable": True, **error}
    return Report(task_id=task.task_id, happening=Failed(step_id=task.step_id, fence=task.fence, error=error))


def accepted(*reports, then=None):
    result = turn(list(reports), then)
    assert all(isinstance(answer, Accept) for answer in result.answers), result.answers
    return result


def drive(act=done, slots=16, owner="w1", rounds=10_000):
    """Until nothing is ready; gives how many turns that took."""
    reports, turns = [], 0
    while turns < rounds:
        result = turn(reports, wanted(slots, owner))
        turns += 1
        reports = [act(task) for task in result.claimed]
        if not reports:
            return turns
    raise AssertionError("it never ends")


def journal(execution):
    return [
        (event.type, event.step_id) if event.step_id else event.type
        for event in Event.objects.filter(execution=execution).order_by("seq")
    ]


def statuses(execution):
    return dict(Task.objects.filter(execution=execution).values_list("step_id", "status"))


def check_rows(execution):
    """What must hold of any execution's rows: I3, I6, and the counts."""
    execution.refresh_from_db()
    events = list(Event.objects.filter(execution=execution).order_by("seq"))
    assert [event.seq for event in events] == list(range(1, execution.seq + 1))
    tasks = list(Task.objects.filter(execution=execution))
    terminal = ("completed", "failed", "timed_out", "cancelled", "skipped")
    assert execution.open_tasks == sum(task.status not in terminal for task in tasks)
    for task in tasks:
        ends = [e for e in events if e.step_id == task.step_id and e.data["status"] in terminal]
        assert len(ends) == (task.status in terminal)
        started = [e.data["attempt"] for e in events if e.step_id == task.step_id and e.type == "task.started"]
        assert started == list(range(1, task.fence + 1))
