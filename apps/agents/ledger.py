"""What an agent does: claims, keeps its leases, reports. Each call is one answer of the protocol.

The fencing number is checked where it is written, by the engine; what is looked up here before is who held it, which
for one number never changes.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import Error, IntegrityError, OperationalError, transaction
from django.db.models import Sum
from django.db.models.functions import Length

from apps.agents.models import Agent
from apps.agents.selectors import Held, good, leases_of
from apps.core.clock import database_now
from apps.core.errors import Conflict, Invalid, NotFound, PlatformError, Problem, TooLarge, Unauthenticated, Unavailable
from apps.executors.logs import NOTICE
from apps.executors.outputs import Unrecordable, checked_outputs
from apps.executors.types import MOST_FILES
from apps.vault import blobs
from apps.workflows.engine.graph import StepSpec
from apps.workflows.engine.ids import step_of
from apps.workflows.engine.states import Status
from apps.workflows.engine.types import Accept, Completed, Failed, Progressed, Reject, Stopped
from apps.workflows.models import Artifact, Event, Execution, LogChunk, Task
from apps.workflows.selectors.graphs import graph_of
from apps.workflows.services import artifacts, leases, spilling
from apps.workflows.services.ledger import ClaimedTask, LogLine, Report, Wanted, lanes, sql, turn

logger = logging.getLogger(__name__)

STALE = "stale_attempt"
MOST_LOG = 4 << 20  # characters that an attempt may write: about as many bytes as of one that a worker performs


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What a heartbeat is answered."""

    cancel: tuple[UUID, ...]
    lost: tuple[UUID, ...]
    lease_expires_at: datetime


# --- claiming ---------------------------------------------------------------------------------------------------------


def arrive(agent: Agent) -> int:
    """It comes to claim: take note of its presence, and of what it never heard of having. Gives what it holds.

    A lease that no heartbeat has named for half its time is one whose answer got lost.
    """
    held, lost = _known(agent, leases_of(agent, lease_seconds=_lease()), named=None)
    leases.lose(lost)
    _beat(agent, (), load=len(held))
    return len(held)


def claim(agent: Agent, most: int) -> tuple[ClaimedTask, ...]:
    """Take at most `most` tasks for it, within its slots; none where nothing is there for it.

    Raises `Unauthenticated` where its credential, as this row names it, does not hold any more.
    """
    if not something_for(agent):
        return ()
    try:
        with transaction.atomic():
            # Two claims of one agent come one after the other, so that both keep to its slots.
            row = Agent.objects.select_for_update().filter(pk=agent.pk).first()
            if row is None or row.token_id != agent.token_id or not good([row]):
                raise Unauthenticated("The credential is invalid or has expired.", code="invalid_token")
            held = len(leases_of(row, lease_seconds=_lease()))
            free = min(most, row.slots - held)
            found = turn([], _wanted(row, free, idle=not held)).claimed if free > 0 else ()
    except OperationalError as error:
        if sql.is_deadlock(error):
            return ()  # the next look is soon
        raise
    if found:
        _beat(row, (), load=held + len(found))
    return tuple(ready for task in found if (ready := _filled(task)) is not None)


def something_for(agent: Agent) -> bool:
    """Whether a task is ready in a lane of this agent's; costs no lock."""
    served = lanes.served(_wanted(agent, 1))
    names = () if served is None else (*served.first, *served.later)
    if not names:
        return False
    now = database_now()
    # An execution that is paused, or held back, stands in no line, though its tasks are ready.
    return Task.objects.filter(lane__in=names, ready_at__lte=now, execution__ready_at__lte=now).exists()


def lanes_of(agent: Agent) -> frozenset[str]:
    """The lanes that it serves: agents alike in this find the same."""
    served = lanes.served(_wanted(agent, 1))
    return frozenset() if served is None else frozenset((*served.first, *served.later))


def unheard(claimed: Sequence[ClaimedTask]) -> None:
    """Give back what was claimed for an agent that is not there any more."""
    leases.release([(task.task_id, task.fence, task.step_id) for task in claimed])


def _wanted(agent: Agent, slots: int, *, idle: bool = True) -> Wanted:
    return Wanted(
        owner=agent.performer, slots=slots, lease_seconds=_lease(), kind="agent", labels=agent.labels, idle=idle
    )  # fmt: skip


def _filled(task: ClaimedTask) -> ClaimedTask | None:
    """The task with spilled outputs in the place of references to them; None where it failed for want of one."""
    if not spilling.refers(task.config):
        return task
    filling = spilling.Filling(task.execution_id, settings.ENV.OUTPUT_MAX_BYTES)
    try:
        return replace(task, config=filling.filled(task.config))
    except PlatformError as error:
        why = {"type": "invalid", "message": error.detail, "retryable": False}
    except (OSError, Error) as error:
        why = {"type": "error", "message": f"an output that was spilled cannot be read: {error}", "retryable": True}
    turn([Report(task_id=task.task_id, happening=Failed(step_id=task.step_id, fence=task.fence, error=why))])
    return None


# --- leases -----------------------------------------------------------------------------------------------------------


def heartbeat(agent: Agent, named: Sequence[tuple[UUID, int]], *, load: int | None = None) -> Beat:
    """Keep the leases that it names by task and attempt. Those that it does not name any more are ended.

    An attempt that ran longer than its step allows, or that goes on a whole lease after its execution was asked to
    stop, ends here and is told as lost.
    """
    held, all_named = leases_of(agent, lease_seconds=_lease()), frozenset(named)
    _, lost = _known(agent, held, named=all_named)
    leases.lose(lost)
    mine = [one for one in held if (one.task_id, one.fence) in all_named]
    late = _overdue(mine)
    # What it names and does not hold costs no statement.
    going_on = [key for one in mine if (key := (one.task_id, one.fence)) not in late]
    answer = _beat(agent, going_on, load=load)
    kept = {task for task, _ in going_on}.difference(answer.lost)
    return Beat(
        cancel=answer.cancel,
        lost=tuple(dict.fromkeys(task for task, _ in named if task not in kept)),
        lease_expires_at=answer.lease_expires_at,
    )


def _known(
    agent: Agent, held: Sequence[Held], *, named: frozenset[tuple[UUID, int]] | None
) -> tuple[list[Held], list[leases.Lease]]:
    """What it holds and knows of, and what it does not know of (any more).

    A lease is too young to be judged for half its time: the answer may still be on its way.
    """
    young = database_now() - timedelta(seconds=_lease() / 2)
    known, lost = [], []
    for one in held:
        forgotten = (
            (not one.kept and one.started_at < young)
            if named is None
            else (one.task_id, one.fence) not in named and (one.kept or one.started_at < young)
        )
        if forgotten:
            lost.append((one.task_id, one.fence, one.step_id))
        else:
            known.append(one)
    if lost:
        logger.warning("%s: %d tasks that it holds are unknown to it and go back", agent.performer, len(lost))
    return known, lost


def _overdue(held: Iterable[Held]) -> set[tuple[UUID, int]]:
    """End the attempts that have run longer than their steps allow, and those that are deaf to a stop."""
    asked = {one.task_id: one for one in held}
    rows = Task.objects.filter(pk__in=asked).select_related("execution")
    now, late = database_now(), set()
    for row in rows.only("step_id", "execution__version_id", "execution__cancel_requested_at"):
        one, stop = asked[row.pk], row.execution.cancel_requested_at
        happening: Failed | Stopped | None = None
        if why := _late(_spec(row), one.started_at, now):
            happening = Failed(step_id=one.step_id, fence=one.fence, error=why)
        elif stop is not None and (now - stop).total_seconds() > _lease():
            happening = Stopped(step_id=one.step_id, fence=one.fence)
        if happening is not None:
            turn([Report(task_id=one.task_id, happening=happening)])
            late.add((one.task_id, one.fence))
    return late


def _late(spec: StepSpec, started: datetime | None, now: datetime) -> dict[str, Any] | None:
    seconds = spec.timeout_seconds
    if seconds is None or started is None or (now - started).total_seconds() <= seconds:
        return None
    return {"type": "timeout", "message": f"it ran longer than its {seconds:g} s", "retryable": True}


def _beat(agent: Agent, named: Sequence[tuple[UUID, int]], *, load: int | None = None) -> leases.Heartbeat:
    return leases.beat(
        owner=agent.performer,
        kind="agent",
        slots=agent.slots,
        held=named,
        load=load,
        lease_seconds=_lease(),
        labels=agent.labels,
    )


def _lease() -> float:
    return float(settings.ENV.LEASE_SECONDS)


# --- reports ----------------------------------------------------------------------------------------------------------


def complete(agent: Agent, task_id: UUID, attempt: int, outputs: Any) -> bool:
    """It is done. Gives whether this was recorded now; False where it was before.

    Raises `NotFound` for a task that it never held, `Conflict` (`stale_attempt`), `Invalid` for outputs that cannot be
    recorded, `TooLarge`.
    """
    row, current = _task(agent, task_id, attempt)
    limit = settings.ENV.OUTPUT_MAX_BYTES
    try:
        plain: Mapping[str, Any] = checked_outputs(outputs, limit)
    except Unrecordable as error:
        message = str(error)
        raise Invalid(message, problems=[Problem(pointer="/outputs", code="invalid", message=message)]) from None
    if current:
        _in_time(row)
        plain, spilled = spilling.spill(plain, settings.ENV.OUTPUT_INLINE_BYTES)
        if spilled:
            _keep(row, spilled)
    return _tell(row, Completed(step_id=row.step_id, fence=attempt, outputs=plain))


def fail(agent: Agent, task_id: UUID, attempt: int, message: str, *, retryable: bool) -> bool:
    """It failed; whether there is another attempt is the step's to say, and none where it is not `retryable`.

    Gives and raises as `complete`.
    """
    row, current = _task(agent, task_id, attempt)
    if current:
        _in_time(row)
    error = {"type": "error", "message": message, "retryable": retryable}
    return _tell(row, Failed(step_id=row.step_id, fence=attempt, error=error))


def progress(agent: Agent, task_id: UUID, attempt: int, percent: float, message: str) -> None:
    """How far it is. Raises as `complete`."""
    row = _current(agent, task_id, attempt)
    _tell(row, Progressed(step_id=row.step_id, fence=attempt, percent=percent, message=message))


def log(agent: Agent, task_id: UUID, attempt: int, lines: Sequence[LogLine]) -> None:
    """Append to its log, of which `MOST_LOG` characters are kept; a number that was written before is written once.

    Raises as `complete`.
    """
    row = _current(agent, task_id, attempt)
    with transaction.atomic():
        # Under its lock nobody says how far it is, nor writes another piece.
        list(Execution.objects.select_for_update().filter(pk=row.execution_id).values_list("pk"))
        now = Task.objects.filter(pk=task_id).values_list("percent", "message").first()
        percent, message = now or (row.percent, row.message)
        same = Progressed(step_id=row.step_id, fence=attempt, percent=percent, message=message)
        _tell(row, same, logs=tuple(_that_fit(task_id, attempt, lines)))


def _that_fit(task_id: UUID, attempt: int, lines: Sequence[LogLine]) -> Iterator[LogLine]:
    """The lines that are new and fit; in the place of the first that does not, its beginning and a notice."""
    written = LogChunk.objects.filter(task=task_id, fence=attempt)
    before = set(written.filter(number__in=[line.number for line in lines]).values_list("number", flat=True))
    left = MOST_LOG - int(written.aggregate(sum=Sum(Length("text"), default=0))["sum"])
    for line in lines:
        if line.number in before:
            continue
        if left <= 0:
            return
        fits = len(line.text) <= left
        yield line if fits else replace(line, text=line.text[:left] + NOTICE.format(limit=MOST_LOG))
        left -= len(line.text)


def leave_file(agent: Agent, task_id: UUID, attempt: int, file: artifacts.Left) -> Artifact:
    """Keep a file of the attempt; the same one once. Raises as `complete`, and `TooLarge` and `Full` by quota."""
    row = _current(agent, task_id, attempt)
    files = Artifact.objects.filter(task=row, fence=attempt)
    before = files.filter(name=file.name).first()
    if before is not None:
        if before.blob_id == blobs.measure(file.source)[0]:
            return before  # the answer to its request got lost
        raise _left_before(file)
    if files.count() >= MOST_FILES:
        raise TooLarge(f"an attempt may leave {MOST_FILES:,} files", code="too_many_artifacts")
    try:
        return _keep(row, [file])[0]
    except IntegrityError:  # the same file, sent twice at once
        raise _left_before(file) from None


def _current(agent: Agent, task_id: UUID, attempt: int) -> Task:
    row, current = _task(agent, task_id, attempt)
    if not current:
        raise _stale(attempt)
    return row


def _task(agent: Agent, task_id: UUID, attempt: int) -> tuple[Task, bool]:
    """The task, where this agent ever held it, and whether it holds this attempt of it now."""
    row = Task.objects.select_related("execution").defer("outputs", "item").filter(pk=task_id).first()
    if row is None:
        raise _nothing()
    if row.fence == attempt and row.lease_owner == agent.performer and row.status == Status.IN_PROGRESS:
        return row, True
    begun = Event.objects.filter(
        execution_id=row.execution_id, type="task.started", step_id=row.step_id, data__performer=agent.performer
    )
    attempts = set(begun.values_list("data__attempt", flat=True))
    if not attempts:
        raise _nothing()
    if attempt not in attempts:
        raise _stale(attempt)
    return row, False


def _in_time(row: Task) -> None:
    """Raises `Conflict` where the attempt has run for too long, which is then recorded."""
    if why := _late(_spec(row), row.started_at, database_now()):
        _tell(row, Failed(step_id=row.step_id, fence=row.fence, error=why))
        raise Conflict(f"attempt {row.fence} ended: {why['message']}", code=STALE)


def _tell(row: Task, happening: Completed | Failed | Progressed, *, logs: tuple[LogLine, ...] = ()) -> bool:
    (answer,) = turn([Report(task_id=row.pk, happening=happening, logs=logs)]).answers
    if isinstance(answer, Reject):
        raise Conflict(answer.reason, code=STALE)
    return isinstance(answer, Accept)


def _keep(row: Task, files: Sequence[artifacts.Left]) -> list[Artifact]:
    try:
        return artifacts.keep(row.execution_id, row.pk, row.fence, files)
    except OSError as error:
        logger.warning("artifacts of %s could not be kept: %s", row.pk, error)
        raise Unavailable("the storage of artifacts does not answer: try again") from error


def _spec(row: Task) -> StepSpec:
    return graph_of(row.execution.version_id).steps[step_of(row.step_id)]


def _stale(attempt: int) -> Conflict:
    return Conflict(f"attempt {attempt} does not hold the task's lease (any more)", code=STALE)


def _nothing() -> NotFound:
    return NotFound("there is no such task, or it was never this agent's")


def _left_before(file: artifacts.Left) -> Conflict:
    return Conflict(f"this attempt left a file `{file.name}` before: give it another name", code="name_taken")
