"""What follows when all that a task waited for has ended: it is skipped, opened, or told apart into items."""

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from apps.workflows.engine.expressions import NO_ITEM, ExpressionError, condition, render
from apps.workflows.engine.graph import CachePolicy, StepSpec
from apps.workflows.engine.ids import MAX_ITEMS, item_name, item_ordinal, step_of
from apps.workflows.engine.moves import Changes, context_of, invalid
from apps.workflows.engine.states import TERMINAL, Status
from apps.workflows.engine.types import (
    Accept,
    Decision,
    Gather,
    Gathered,
    Ignore,
    ItemsMade,
    LookUp,
    MakeItems,
    Settled,
    Snapshot,
    StartChild,
    TaskState,
)

ITEMS, CHILD, TIMER, APPROVAL, SIGNAL, RETRY = "items", "execution", "timer", "approval", "signal:", "retry"
LEAVE = "leave"  # to begin: the execution is paused, or held back by a limit


def begin(snapshot: Snapshot, now: datetime, **data: Any) -> Accept:
    """A new execution: its tasks, what is kept of another one's, and the rest as far as it can be opened.

    `data` goes into the journal's first line.
    """
    graph, kept = snapshot.graph, snapshot.kept
    changes = Changes(snapshot, now)
    changes.say("execution.created", steps=len(graph.steps), **data)
    opened = []
    for spec in graph.steps.values():
        task = TaskState(ordinal=spec.ordinal, step_id=spec.id, queue=spec.queue, lane=spec.lane)
        if spec.id in kept:
            changes.add(task)
            _reuse(changes, task, kept[spec.id])
            continue
        done = [name for name in spec.depends_on if name in kept]
        waiting_on = len(spec.depends_on) - len(done)
        met = len(done) * _meets(spec, Status.COMPLETED)
        changes.add(task._replace(waiting_on=waiting_on, met=met))
        if not waiting_on:
            opened.append(spec)
    for spec in opened:
        open_task(changes, spec, changes.task(spec.id))
    return changes.accept()


def _reuse(changes: Changes, task: TaskState, outputs: Any) -> None:
    reused = task._replace(status=Status.COMPLETED, percent=100.0, finished_at=changes.now, outputs=outputs)
    changes.put(task, reused)
    changes.tell("task.reused", reused)


def _settled(snapshot: Snapshot, event: Settled, now: datetime) -> Decision:
    changes = Changes(snapshot, now)
    ended = snapshot.tasks[event.step_id]
    if ended.is_item:
        _item_settled(changes, ended)
        return changes.accept()
    for dependant in snapshot.graph.dependants[event.step_id]:
        before, spec = snapshot.tasks[dependant], snapshot.graph.steps[dependant]
        if before.status in TERMINAL:
            continue
        told = before._replace(waiting_on=before.waiting_on - 1, met=before.met + _meets(spec, ended.status))
        changes.put(before, told)
        if not told.waiting_on:
            open_task(changes, spec, told)
    return changes.accept()


def _meets(spec: StepSpec, outcome: Status) -> int:
    if spec.on == "success":
        return int(outcome is Status.COMPLETED)
    if spec.on == "failure":
        return int(outcome in (Status.FAILED, Status.TIMED_OUT))
    return 1


def open_task(changes: Changes, spec: StepSpec, task: TaskState) -> None:
    """A task of a whole step none of whose dependencies is open any more."""
    needed = len(spec.depends_on) if spec.on == "success" else 1 if spec.on == "failure" else 0
    if task.met < needed:
        # What failure ruled out was not done; a step for failures that nobody needed is settled.
        changes.end(task, Status.SKIPPED, percent=0.0 if spec.on == "success" else 100.0)
        return
    if spec.when is not None:
        try:
            holds = condition(spec.when, context_of(changes.snapshot))
        except ExpressionError as wrong:
            changes.fail(task, Status.FAILED, invalid("when", wrong))
            return
        if not holds:
            changes.end(task, Status.SKIPPED, percent=100.0)
            return
    if spec.for_each is None:
        enter(changes, spec, task)
    else:
        _expand(changes, spec, task)


# --- one step, many items ---------------------------------------------------------------------------------------------


def _expand(changes: Changes, spec: StepSpec, task: TaskState) -> None:
    try:
        items = render(spec.for_each, context_of(changes.snapshot))
    except ExpressionError as wrong:
        changes.fail(task, Status.FAILED, invalid("for_each", wrong))
        return
    if not isinstance(items, list | tuple) or len(items) > MAX_ITEMS:
        what = f"{len(items):,} items" if isinstance(items, list | tuple) else type(items).__name__
        message = f"for_each: it must be a list of at most {MAX_ITEMS:,} items, not {what}"
        changes.fail(task, Status.FAILED, {"type": "invalid", "message": message, "retryable": False})
        return
    kept = {n: name for n in range(len(items)) if (name := item_name(spec.id, n)) in changes.snapshot.kept}
    changes.lists[spec.id] = items
    left = len(items) - len(kept)
    counted = task._replace(items=len(items), waiting_on=left, met=len(kept))
    waiting = changes.wait(counted, ITEMS, None, started_at=changes.now)
    changes.tell("task.waiting", waiting, waiting_for=ITEMS, items=len(items))
    for number, name in kept.items():
        item = TaskState(ordinal=item_ordinal(spec.ordinal, number), step_id=name, queue=spec.queue, lane=spec.lane)
        changes.add(item)
        _reuse(changes, item, changes.snapshot.kept[name])
    if left:
        changes.commands.append(MakeItems(step_id=spec.id, count=min(left, spec.max_parallel)))
    else:
        changes.commands.append(Gather(step_id=spec.id))


def _items_made(snapshot: Snapshot, event: ItemsMade, now: datetime) -> Decision:
    spec, whole = snapshot.graph.steps[event.step_id], snapshot.tasks[event.step_id]
    changes = Changes(snapshot, now)
    changes.put(whole, whole._replace(next_item=event.next_item))
    for number, value in event.items.items():
        item = TaskState(
            ordinal=item_ordinal(spec.ordinal, number),
            step_id=item_name(spec.id, number),
            queue=spec.queue,
            lane=spec.lane,
        )
        changes.add(item)
        enter(changes, spec, item, value)
    return changes.accept()


def _item_settled(changes: Changes, ended: TaskState) -> None:
    whole = changes.task(step_of(ended.step_id))
    if whole.status in TERMINAL:
        return
    good = ended.status in (Status.COMPLETED, Status.SKIPPED)
    told = whole._replace(waiting_on=whole.waiting_on - 1, met=whole.met + good)
    if not good and told.error is None and ended.error:
        told = told._replace(error={**ended.error, "step_id": ended.step_id})
    changes.put(whole, told)
    if changes.stopping:
        if not told.waiting_on:
            changes.stop(told)
    elif not told.waiting_on:
        changes.commands.append(Gather(step_id=whole.step_id))
    elif told.next_item < told.items:
        changes.commands.append(MakeItems(step_id=whole.step_id, count=1))


def _gathered(snapshot: Snapshot, event: Gathered, now: datetime) -> Decision:
    whole = snapshot.tasks[event.step_id]
    if whole.status is not Status.WAITING or whole.waiting_on:
        return Ignore(reason=f"items of {event.step_id} are open")
    changes = Changes(snapshot, now)
    failed = whole.items - whole.met
    if event.outputs is None:
        message = "the outputs of its items together are too large: let each keep its result elsewhere and name it"
        changes.fail(whole, Status.FAILED, {"type": "output", "message": message, "retryable": False})
    elif failed:
        first = whole.error or {}
        message = f"{failed:,} of {whole.items:,} items failed; the first was {first.get('step_id')}: "
        error = {"type": "items", "message": message + str(first.get("message")), "retryable": False}
        changes.fail(whole, Status.FAILED, error, outputs=event.outputs)
    else:
        changes.complete(whole, event.outputs)
    return changes.accept()


# --- one task ---------------------------------------------------------------------------------------------------------


def enter(changes: Changes, spec: StepSpec, task: TaskState, item: Any = NO_ITEM) -> None:
    """A task whose turn has come: in line for performers, or, where the engine sees to it, what it waits for."""
    now, snapshot = changes.now, changes.snapshot
    if not spec.own:
        ready = changes.ready(task, Status.PENDING, now)
        if spec.cache is not None:
            try:
                digest = digest_of(snapshot, spec.cache, task.step_id, item)
            except ExpressionError as wrong:
                changes.fail(ready, Status.FAILED, invalid("cache.key", wrong))
                return
            changes.commands.append(LookUp(step_id=task.step_id, digest=digest))
        return
    try:
        config = render(spec.config, context_of(snapshot, item))
    except ExpressionError as wrong:
        changes.fail(task, Status.FAILED, invalid("", wrong))
        return
    if spec.kind == "workflow" and (changes.execution.held or changes.execution.status is Status.PAUSED):
        kept = changes.wait(task, LEAVE, None)
        changes.tell("task.waiting", kept, waiting_for=LEAVE)
        return
    changes.begin_execution()
    begun = task._replace(started_at=now)
    if spec.kind == "wait":
        _wait(changes, spec, begun, config)
        return
    seconds = config.get("timeout_seconds", spec.timeout_seconds)
    due = None if seconds is None else now + timedelta(seconds=seconds)
    if spec.kind == "approval":
        waiting = changes.wait(begun, APPROVAL, due)
    else:
        waiting = changes.wait(begun, CHILD, due)
        changes.commands.append(StartChild(step_id=task.step_id, config=config))
    changes.tell("task.waiting", waiting, waiting_for=waiting.waiting_for, **_until(due))


def _wait(changes: Changes, spec: StepSpec, task: TaskState, config: Mapping[str, Any]) -> None:
    now, signal = changes.now, config.get("signal")
    if signal is not None:
        if signal in changes.snapshot.signals:
            changes.complete(task, changes.snapshot.signals[signal])
            return
        due = None if spec.timeout_seconds is None else now + timedelta(seconds=spec.timeout_seconds)
        waiting = changes.wait(task, f"{SIGNAL}{signal}", due)
    else:
        try:
            due = _moment(config, now)
        except (ValueError, OverflowError) as wrong:
            changes.fail(task, Status.FAILED, invalid("wait.until", wrong))
            return
        if due <= now:
            changes.complete(task, {"until": due.isoformat()})
            return
        waiting = changes.wait(task, TIMER, due)
    changes.tell("task.waiting", waiting, waiting_for=waiting.waiting_for, **_until(due))


def _moment(config: Mapping[str, Any], now: datetime) -> datetime:
    if config.get("seconds") is not None:
        return now + timedelta(seconds=float(config["seconds"]))
    until = datetime.fromisoformat(str(config.get("until")))
    if until.tzinfo is None:
        raise ValueError(f"`{until.isoformat()}` does not say its time zone; write 2027-01-31T09:00:00+01:00 or …Z")
    return until.astimezone(UTC)  # beyond the year 9999 it is refused here, not by the database


def _until(due: datetime | None) -> dict[str, Any]:
    return {} if due is None else {"due_at": due.isoformat()}


def digest_of(snapshot: Snapshot, cache: CachePolicy, task: str, item: Any = NO_ITEM) -> str:
    """SHA-256 that names the result of a task. Raises `ExpressionError` where its key cannot be evaluated."""
    key = render(cache.key, context_of(snapshot, snapshot.items.get(task, item)))
    text = json.dumps([cache.definition, key], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


RULES: Mapping[type, Callable[[Snapshot, Any, datetime], Decision]] = {
    Settled: _settled,
    ItemsMade: _items_made,
    Gathered: _gathered,
}
