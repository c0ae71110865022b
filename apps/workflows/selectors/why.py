"""Why a task does not run: every reason that stands in its way now, each with its fix.

Read from the rows that the claim reads, with the functions that it uses. What the asker may not read is counted and
never named: other workflows without `workflow:read` on them, performers without what opens them (`performers`).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import UUID

from apps.core.clock import database_now
from apps.workflows.engine.breaker import WAITS
from apps.workflows.engine.graph import Graph, StepSpec
from apps.workflows.engine.ids import step_of
from apps.workflows.engine.states import CLAIMABLE, OPEN, TERMINAL, Status
from apps.workflows.engine.types import TRACKER
from apps.workflows.models import Execution, Task, Workflow
from apps.workflows.selectors.approvals import asked_of
from apps.workflows.selectors.graphs import graph_of
from apps.workflows.selectors.in_line import Line, Reason, reason, time, times
from apps.workflows.selectors.relations import children_of_tasks, whole_steps

MAX_TASKS = 100  # that are explained at once
MAX_NAMED = 20  # dependencies, holders, performers that one reason names
_OPEN = sorted(status.value for status in OPEN)
_WAITS = {
    "timer": "it waits for a time",
    "approval": "it waits for an approval",
    "items": "it waits for its items",
    "execution": "it waits for another execution",
    "leave": "it may not begin yet",
    "retry": "it is tried again later",
}


def why(user: Any, task: Task) -> dict[str, Any]:
    """`{task_id, step_id, status, reasons: [{code, message, …}]}` of one task, read with its execution and workflow."""
    return _told(task, reasons_of(user, task.execution, [task])[task.pk])


def why_execution(user: Any, execution: Execution) -> dict[str, Any]:
    """The same of the first open tasks of an execution; `more` counts those that are open and not explained here."""
    rows = Task.objects.filter(execution=execution, status__in=_OPEN).order_by("pk")[:MAX_TASKS]
    tasks = list(rows)
    for task in tasks:
        task.execution = execution
    found = reasons_of(user, execution, tasks)
    return {
        "execution_id": execution.pk,
        "status": execution.status,
        "tasks": [_told(task, found[task.pk]) for task in tasks],
        "more": max(0, execution.open_tasks - len(tasks)),
    }


def _told(task: Task, reasons: list[Reason]) -> dict[str, Any]:
    return {"task_id": task.pk, "step_id": task.step_id, "status": task.status, "reasons": reasons}


def reasons_of(user: Any, execution: Execution, tasks: Iterable[Task]) -> dict[UUID, list[Reason]]:
    """By task the reasons why it does not run, or what it does; what they share is read once."""
    asked = list(tasks)
    asking = _Asking(user, execution, [task.pk for task in asked if task.waiting_for == "execution"])
    return {task.pk: list(asking.about(task)) for task in asked}


class _Asking:
    """One question about tasks of one execution. What it needs is read when it is first needed."""

    def __init__(self, user: Any, execution: Execution, parents: list[UUID]) -> None:
        self.user, self.execution = user, execution
        self.now = database_now()
        self.line = Line(user, execution, self.now)
        self._graph: Graph | None = None
        self._steps: dict[str, Task] | None = None
        self._children = children_of_tasks(user, parents) if parents else {}

    @property
    def graph(self) -> Graph:
        """The execution's graph."""
        self._graph = self._graph or graph_of(self.execution.version_id)
        return self._graph

    @property
    def steps(self) -> Mapping[str, Task]:
        """The tasks of its whole steps by id."""
        if self._steps is None:
            rows = whole_steps(self.execution.pk).only(
                "step_id", "status", "waiting_for", "percent", "ready_at", "waiting_on", "items"
            )
            self._steps = {row.step_id: row for row in rows}
        return self._steps

    # -- one task ----------------------------------------------------------------------------------------------------

    def about(self, task: Task) -> Iterator[Reason]:
        """Why it does not run."""
        if task.status in TERMINAL:
            yield self._ended(task)
        elif self.execution.workflow.kind == Workflow.Kind.TRACKER:
            yield reason("reported", "its progress is reported from outside: whoever does that says when it goes on")
        elif task.status == Status.IN_PROGRESS:
            yield from self._running(task)
        else:
            yield from self._open(task, self.graph.steps[step_of(task.step_id)])

    def _ended(self, task: Task) -> Reason:
        message = f"it is {task.status.replace('_', ' ')}: nothing is open about it"
        if task.status == Status.SKIPPED:
            message += ". Its `when` did not hold, or its dependencies did not end as its `on` asks"
        elif task.status != Status.COMPLETED:
            message += ". A retry or a fork of its execution, once that has ended, does it again"
        return reason("ended", message, finished_at=time(task.finished_at))

    def _running(self, task: Task) -> Iterator[Reason]:
        if self.execution.cancel_requested_at:
            message = "its execution is being stopped: its performer is told with its next heartbeat"
            yield reason("stopping", message, **times(self.execution.cancel_requested_at, "requested_at"))
        owner = task.lease_owner if task.lease_owner != TRACKER else ""
        yield reason(
            "running",
            f"nothing stands in its way: it runs, attempt {task.fence}",
            performer=self.line.names.of(owner),
            **times(task.started_at, "started_at"),
            **times(task.lease_expires_at, "lease_expires_at"),
        )

    def _open(self, task: Task, spec: StepSpec) -> Iterator[Reason]:
        if self.execution.cancel_requested_at:
            message = "its execution is being stopped: it will not start any more"
            yield reason("stopping", message, **times(self.execution.cancel_requested_at, "requested_at"))
            return
        if task.status in CLAIMABLE and task.ready_at is not None and not spec.own:
            yield from self.line.reasons(task, spec)
            return
        if task.waiting_for and task.waiting_for != "leave":
            yield from self._waits(task, spec)
            return
        yield from self.line.held_back()
        if task.waiting_on:
            yield self._dependencies(spec)

    # -- what it waits for -------------------------------------------------------------------------------------------

    def _dependencies(self, spec: StepSpec) -> Reason:
        there = [row for name in spec.depends_on if (row := self.steps.get(name)) and row.status not in TERMINAL]
        named = [
            {
                "step_id": row.step_id,
                "status": row.status,
                "percent_complete": round(row.percent, 2),
                "doing": _doing(row),
            }
            for row in there[:MAX_NAMED]
        ]
        shown = ", ".join(f"`{row['step_id']}` ({row['doing']})" for row in named[:3])
        more = f" and {len(there) - 3} more" if len(there) > 3 else ""
        whole = len(spec.depends_on)
        what = "its dependency has" if whole == 1 else f"{len(there)} of its {whole} dependencies have"
        message = f"{what} not ended: {shown}{more}"
        return reason("dependency", message, open=len(there), steps=named)

    def _waits(self, task: Task, spec: StepSpec) -> Iterator[Reason]:
        what, until = task.waiting_for, times(task.due_at, "due_at")
        if what == "timer":
            yield reason("timer", f"it waits until {time(task.due_at)}", **until)
        elif what == "retry":
            message = f"attempt {task.failures} failed; it is tried again at {time(task.due_at)}"
            yield reason("retry", message, at=time(task.due_at), failures=task.failures, error=task.error)
        elif what == "items":
            yield _items(task, spec)
        elif what == "execution":
            yield self._child(task, until)
        elif what == "approval":
            yield self._approval(task, until)
        elif what.startswith("signal:"):
            name = what.removeprefix("signal:")
            message = f"it waits for the signal `{name}`: POST /executions/{self.execution.pk}/signal/{name}"
            yield reason("signal", message, name=name, **until)

    def _approval(self, task: Task, until: Mapping[str, Any]) -> Reason:
        asked = asked_of(task)
        who = list(asked.who) if asked else []
        whom = f"{', '.join(who)} (roles or users)" if who else "anybody who may execute tasks of this workflow"
        but = "" if asked and asked.allow_requester else ", but not by whoever requested the execution"
        path = f"/tasks/{task.pk}"
        message = f"it waits for an approval by {whom}{but}: POST {path}/approve or {path}/reject"
        return reason("approval", message, who=who, allow_requester=bool(asked and asked.allow_requester), **until)

    def _child(self, task: Task, until: Mapping[str, Any]) -> Reason:
        child = self._children.get(task.step_id)
        if child is None:
            return reason("execution", "it waits for an execution of a workflow that you may not read", **until)
        message = f"it waits for an execution of `{child['workflow_id']}`, which is {child['status']}"
        path = f": GET /executions/{child['execution_id']}/why"
        details = {"execution_id": child["execution_id"], "workflow_id": child["workflow_id"]}
        return reason("execution", message + path, **details, execution_status=child["status"], **until)


def _items(task: Task, spec: StepSpec) -> Reason:
    ended = task.items - task.waiting_on
    failed = ended - task.met
    message = f"{ended:,} of its {task.items:,} items have ended" + (f", {failed:,} of them badly" if failed else "")
    message += f"; at most {spec.max_parallel:,} have tasks at once: GET /executions/{task.execution_id}/tasks"
    message += f"?step_id={task.step_id}"
    return reason(
        "items", message, total=task.items, completed=task.met, failed=failed, open=task.waiting_on,
        without_task=max(0, task.items - task.next_item),
    )  # fmt: skip


def _doing(task: Task) -> str:
    """What an open step is doing, in a few words."""
    if task.status == Status.IN_PROGRESS:
        return f"it runs, {task.percent:.0f} %"
    if task.waiting_for.startswith("signal:"):
        return f"it waits for the signal {task.waiting_for.removeprefix('signal:')}"
    if task.waiting_for.startswith(WAITS):
        return f"it waits for the circuit breaker {task.waiting_for.removeprefix(WAITS)}"
    if task.waiting_for:
        return _WAITS.get(task.waiting_for, "it waits for a rate limit")
    if task.ready_at is not None:
        return "it stands in line"
    return f"it waits for {task.waiting_on} steps itself"
