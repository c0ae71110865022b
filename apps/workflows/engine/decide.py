"""What follows from what happened: a pure function over a neighbourhood, the only place that moves a status.

No clock, no chance, no I/O: `now` is an argument, and the jitter of a retry is drawn from the task's own numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from apps.workflows.engine.expressions import Context, ExpressionError, condition, render
from apps.workflows.engine.graph import StepSpec
from apps.workflows.engine.moves import MOST_BEFORE_THE_END, end, fact, move, ready, sooner, stale, weigh
from apps.workflows.engine.retry import may_retry, retry_delay
from apps.workflows.engine.states import CLAIMABLE, EXECUTION_MOVES, TERMINAL, Status
from apps.workflows.engine.types import (
    Accept,
    Claimed,
    Closing,
    Completed,
    Decision,
    ExecutionState,
    Fact,
    Failed,
    Happening,
    Ignore,
    Lost,
    Progressed,
    Reject,
    Released,
    Settled,
    Snapshot,
    Stopped,
    StopRequested,
    TaskState,
)


def decide(snapshot: Snapshot, happening: Happening, now: datetime) -> Decision:
    """The consequences of `happening`, or why it has none."""
    return _RULES[type(happening)](snapshot, happening, now)


# --- the rules, one for each happening ------------------------------------------------------------------------------


def _claimed(snapshot: Snapshot, event: Claimed, now: datetime) -> Decision:
    execution, task = snapshot.execution, snapshot.tasks[event.step_id]
    if execution.cancel_requested_at or execution.status in TERMINAL:
        return Reject(code="execution_stopping", reason="the execution starts nothing new")
    if task.status not in CLAIMABLE or task.ready_at is None or task.ready_at > now:
        return Reject(code="not_ready", reason=f"{task.step_id} is not ready")
    facts = []
    if execution.status is Status.PENDING:
        execution = replace(execution, status=Status.IN_PROGRESS, started_at=now)
        facts.append(Fact(type="execution.started", data=_about(execution)))
    started = move(
        task,
        Status.IN_PROGRESS,
        fence=task.fence + 1,
        ready_at=None,
        lease_owner=event.owner,
        lease_expires_at=event.lease_expires_at,
        percent=0.0,
        message="",
        started_at=now,
    )
    execution = weigh(execution, task, started)
    facts.append(fact("task.started", started, execution, performer=event.owner))
    return Accept(execution=execution, tasks=(started,), facts=tuple(facts))


def _completed(snapshot: Snapshot, event: Completed, now: datetime) -> Decision:
    task = snapshot.tasks[event.step_id]
    if refusal := stale(task, event.fence):
        return refusal
    done = end(task, Status.COMPLETED, now, percent=100.0, message="", error=None, outputs=event.outputs)
    execution = weigh(snapshot.execution, task, done)
    return Accept(
        execution=execution,
        tasks=(done,),
        # A fold of the journal must end where the row does: what was said on the way no longer holds.
        facts=(fact("task.completed", done, execution, **({"message": ""} if task.message else {})),),
        settled=(task.step_id,),
    )


def _failed(snapshot: Snapshot, event: Failed, now: datetime) -> Decision:
    task, spec = snapshot.tasks[event.step_id], snapshot.graph.steps[event.step_id]
    if refusal := stale(task, event.fence):
        return refusal
    if snapshot.execution.cancel_requested_at:
        return _stop(snapshot.execution, task, now)
    failures = task.failures + 1
    if may_retry(spec.retry, failures=failures, error=event.error):
        delay = retry_delay(spec.retry, retry=failures, seed=f"{task.ordinal}:{task.fence}:{task.started_at}")
        again = ready(task, Status.WAITING, now + timedelta(seconds=delay), failures=failures, percent=0.0)
        again = replace(again, error=event.error)
        execution = sooner(weigh(snapshot.execution, task, again), again.ready_at or now)
        told = fact(
            "task.retrying", again, execution, error=event.error, delay_seconds=round(delay, 3), failures=failures
        )
        return Accept(execution=execution, tasks=(again,), facts=(told,))
    to = Status.TIMED_OUT if event.error.get("type") == "timeout" else Status.FAILED
    return _fail(snapshot.execution, spec, replace(task, failures=failures), to, event.error, now)


def _fail(
    execution: ExecutionState, spec: StepSpec, task: TaskState, to: Status, error: Mapping[str, Any], now: datetime
) -> Accept:
    failed = end(task, to, now, error=error)
    execution = weigh(execution, task, failed)
    if not spec.allow_failure:
        execution = replace(
            execution,
            failed_tasks=execution.failed_tasks + 1,
            error=execution.error or {**error, "step_id": spec.id},
        )
    told = fact(f"task.{to.value}", failed, execution, error=error)
    return Accept(execution=execution, tasks=(failed,), facts=(told,), settled=(spec.id,))


def _stop(execution: ExecutionState, task: TaskState, now: datetime) -> Accept:
    stopped = end(task, Status.CANCELLED, now)
    execution = weigh(execution, task, stopped)
    return Accept(
        execution=execution,
        tasks=(stopped,),
        facts=(fact("task.cancelled", stopped, execution),),
        settled=(task.step_id,),
    )


def _stopped(snapshot: Snapshot, event: Stopped, now: datetime) -> Decision:
    task = snapshot.tasks[event.step_id]
    if refusal := stale(task, event.fence):
        return refusal
    if not snapshot.execution.cancel_requested_at:
        return _again(snapshot.execution, task, now, "task.released")
    return _stop(snapshot.execution, task, now)


def _again(execution: ExecutionState, task: TaskState, now: datetime, kind: str, **values: Any) -> Accept:
    """Back into the line at once."""
    again = ready(task, Status.PENDING, now, percent=0.0, **values)
    execution = sooner(weigh(execution, task, again), now)
    return Accept(
        execution=execution,
        tasks=(again,),
        facts=(fact(kind, again, execution, performer=task.lease_owner),),
    )


def _released(snapshot: Snapshot, event: Released, now: datetime) -> Decision:
    task = snapshot.tasks[event.step_id]
    if refusal := stale(task, event.fence):
        return refusal
    if snapshot.execution.cancel_requested_at:
        return _stop(snapshot.execution, task, now)
    return _again(snapshot.execution, task, now, "task.released")


def _lost(snapshot: Snapshot, event: Lost, now: datetime) -> Decision:
    task, spec = snapshot.tasks[event.step_id], snapshot.graph.steps[event.step_id]
    if refusal := stale(task, event.fence):
        return refusal
    if snapshot.execution.cancel_requested_at:
        return _stop(snapshot.execution, task, now)
    losses = task.losses + 1
    if losses <= spec.retry.lost:
        return _again(snapshot.execution, task, now, "task.lost", losses=losses)
    error = {
        "type": "lost",
        "message": f"its performer died {losses} times while it ran (retry.lost is {spec.retry.lost})",
        "retryable": False,
    }
    return _fail(snapshot.execution, spec, replace(task, losses=losses), Status.FAILED, error, now)


def _progressed(snapshot: Snapshot, event: Progressed, now: datetime) -> Decision:
    task = snapshot.tasks[event.step_id]
    if refusal := stale(task, event.fence):
        return refusal
    percent = max(task.percent, min(event.percent, MOST_BEFORE_THE_END))
    if percent == task.percent and event.message == task.message:
        return Ignore(reason="nothing new")
    further = replace(task, percent=percent, message=event.message)
    execution = weigh(snapshot.execution, task, further)
    return Accept(
        execution=execution,
        tasks=(further,),
        facts=(fact("task.progress", further, execution, message=event.message),),
    )


def _settled(snapshot: Snapshot, event: Settled, now: datetime) -> Decision:
    graph = snapshot.graph
    outcome = snapshot.tasks[event.step_id].status
    together = _Together(snapshot.execution)
    for dependant in graph.dependants[event.step_id]:
        before, spec = snapshot.tasks[dependant], graph.steps[dependant]
        if before.status in TERMINAL:
            continue
        told = replace(before, waiting_on=before.waiting_on - 1, met=before.met + _meets(spec, outcome))
        if told.waiting_on:
            together.change(told)
        else:
            together.add(_open(snapshot, together.execution, spec, told, now))
    return together.accept()


class _Together:
    """Several decisions as one, each taken on what those before it left."""

    def __init__(self, execution: ExecutionState, *facts: Fact) -> None:
        self.execution = execution
        self._tasks: list[TaskState] = []
        self._facts = list(facts)
        self._settled: list[str] = []

    def add(self, decision: Accept) -> None:
        self.execution = decision.execution
        self._tasks += decision.tasks
        self._facts += decision.facts
        self._settled += decision.settled

    def change(self, task: TaskState) -> None:
        self._tasks.append(task)

    def accept(self) -> Accept:
        return Accept(
            execution=self.execution,
            tasks=tuple(self._tasks),
            facts=tuple(self._facts),
            settled=tuple(self._settled),
        )


def _open(snapshot: Snapshot, execution: ExecutionState, spec: StepSpec, task: TaskState, now: datetime) -> Accept:
    """A task none of whose dependencies is open any more: ready, skipped, or failed in its condition."""
    after, error = _begin(snapshot, spec, task, now)
    if error:
        return _fail(execution, spec, task, Status.FAILED, error, now)
    execution = weigh(execution, task, after)
    if after.status is Status.SKIPPED:
        skipped = fact("task.skipped", after, execution)
        return Accept(execution=execution, tasks=(after,), facts=(skipped,), settled=(spec.id,))
    return Accept(execution=sooner(execution, now), tasks=(after,))


def _meets(spec: StepSpec, outcome: Status) -> int:
    if spec.on == "success":
        return int(outcome is Status.COMPLETED)
    if spec.on == "failure":
        return int(outcome in (Status.FAILED, Status.TIMED_OUT))
    return 1


def _begin(
    snapshot: Snapshot, spec: StepSpec, task: TaskState, now: datetime
) -> tuple[TaskState, Mapping[str, Any] | None]:
    """A task whose dependencies have all ended: ready, skipped, or (second value) wrong in its condition."""
    needed = len(spec.depends_on) if spec.on == "success" else 1 if spec.on == "failure" else 0
    if task.met < needed:
        # What failure ruled out was not done; a step for failures that nobody needed is settled.
        return end(task, Status.SKIPPED, now, percent=0.0 if spec.on == "success" else 100.0), None
    if spec.when is not None:
        try:
            holds = condition(spec.when, context_of(snapshot))
        except ExpressionError as wrong:
            return task, {"type": "invalid", "message": f"when: {wrong}", "retryable": False}
        if not holds:
            return end(task, Status.SKIPPED, now, percent=100.0), None
    return ready(task, Status.PENDING, now), None


def context_of(snapshot: Snapshot) -> Context:
    """What expressions of this execution may refer to."""
    return Context(inputs=snapshot.inputs, steps=snapshot.outputs, environment=snapshot.environment)


def _stop_requested(snapshot: Snapshot, event: StopRequested, now: datetime) -> Decision:
    execution = snapshot.execution
    if Status.CANCELLED not in EXECUTION_MOVES[execution.status]:
        return Reject(code="invalid_transition", reason=f"the execution is {execution.status.value}")
    if execution.cancel_requested_at:
        return Ignore(reason="it is being stopped already")
    timed_out = event.status is Status.TIMED_OUT
    error = {"type": "timeout", "message": "the execution's timeout_seconds passed"} if timed_out else execution.error
    execution = replace(execution, cancel_requested_at=now, ready_at=None, deadline_at=None, error=error)
    data = {**_about(execution), **({"by": event.by} if event.by else {})}
    asked = Fact(type="execution.timeout" if timed_out else "execution.cancel_requested", data=data)
    together = _Together(execution, asked)
    for task in snapshot.tasks.values():
        if task.status in CLAIMABLE:
            together.add(_stop(together.execution, task, now))
    # What ended here was everybody who waited: there is nobody left to be told.
    return replace(together.accept(), settled=())


def _closing(snapshot: Snapshot, _event: Closing, now: datetime) -> Decision:
    execution = snapshot.execution
    assert not execution.open_tasks, "an execution closes when none of its tasks is open"  # noqa: S101
    outputs: dict[str, Any] = {}
    error = execution.error
    if execution.cancel_requested_at:
        to = Status.TIMED_OUT if (error or {}).get("type") == "timeout" else Status.CANCELLED
    elif execution.failed_tasks:
        to = Status.FAILED
    else:
        to, error = Status.COMPLETED, None
    if to is Status.COMPLETED:
        for name, template in snapshot.graph.outputs:
            try:
                outputs[name] = render(template, context_of(snapshot))
            except ExpressionError as wrong:
                to, error = Status.FAILED, {"type": "invalid", "message": f"outputs.{name}: {wrong}"}
                break
    execution = replace(
        execution,
        status=to,
        percent=100.0 if to is Status.COMPLETED else execution.percent,
        outputs=outputs if to is Status.COMPLETED else None,
        error=error,
        ready_at=None,
        deadline_at=None,
        finished_at=now,
    )
    data = {**_about(execution), **({"error": error} if error else {})}
    return Accept(execution=execution, facts=(Fact(type=f"execution.{to.value}", data=data),))


def _about(execution: ExecutionState) -> dict[str, Any]:
    return {
        "status": execution.status.value,
        "percent_complete": execution.percent,
        "overall_percent": execution.percent,
    }


_RULES: Mapping[type, Callable[[Snapshot, Any, datetime], Decision]] = {
    Claimed: _claimed,
    Completed: _completed,
    Failed: _failed,
    Stopped: _stopped,
    Released: _released,
    Lost: _lost,
    Progressed: _progressed,
    Settled: _settled,
    StopRequested: _stop_requested,
    Closing: _closing,
}


def begin(snapshot: Snapshot, now: datetime) -> Accept:
    """A new execution: its tasks, the roots of its graph ready, skipped by their condition, or failed in it."""
    graph = snapshot.graph
    execution = replace(snapshot.execution, tasks_total=len(graph.steps), open_tasks=len(graph.steps))
    created = Fact(type="execution.created", data={**_about(execution), "steps": len(graph.steps)})
    together = _Together(execution, created)
    for spec in graph.steps.values():
        task = TaskState(ordinal=spec.ordinal, step_id=spec.id, queue=spec.queue, waiting_on=len(spec.depends_on))
        if spec.depends_on:
            together.change(task)
        else:
            together.add(_open(snapshot, together.execution, spec, task, now))
    return together.accept()
