"""Learns from executions that have ended: a little of the time, in a thread of its own, never in anybody's turn.

The thread reads and writes; what takes long is computed by another process.

What is computed is computed outside of any transaction, from rows that do not change any more. It is written where
nobody has learnt of the same workflow meanwhile (`Experience.number`); who comes second has worked for nothing, and
nothing is learnt twice. A workflow whose executions end faster than they can be learnt from is known by a sample of
its newest.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Event
from uuid import UUID

from django.db import transaction
from uuid6 import uuid7

from apps.core.clock import database_now
from apps.workflows.engine.states import Status
from apps.workflows.estimate import Calibration, Run, differ, learn, weights_of
from apps.workflows.models import Execution, Experience, PastRun, StepWeights, Workflow
from apps.workflows.selectors.estimates import history
from apps.workflows.selectors.estimates.situation import slots_for
from apps.workflows.selectors.estimates.weights import AHEAD_MS, newest
from apps.workflows.services.estimates.learner import Learner
from apps.workflows.services.estimates.settling import settle

LOOK_SECONDS = 5.0
SHARE = 0.03  # of a thread's time that learning may take
LOOK_BACK = timedelta(days=1)  # when a process begins
LATE = timedelta(minutes=1)  # a transaction may commit so long after the time that it writes
MOST_ENDS = 2_000  # that are looked at each time: the workflows of the newest are learnt of
MOST_RUNS = 4  # of one workflow at a time
FIRST_RUNS = 20  # of a workflow of which nothing was learnt before
WEIGHTS_EVERY = timedelta(minutes=10)

Learn = Callable[..., Calibration]


@dataclass(slots=True)
class Folder:
    """One who learns, with the moment up to which he has looked."""

    looked_until: datetime | None = None
    rest: Callable[[float], object] = time.sleep

    def fold_due(self, stopping: Event | None = None) -> datetime:
        """Learn from what has ended since the last time; gives when to come again."""
        now = database_now()
        began = time.monotonic()
        settle()
        since = self.looked_until - LATE if self.looked_until else now - LOOK_BACK
        ended = Execution.objects.filter(finished_at__gte=since, finished_at__lte=now, status=Status.COMPLETED)
        rows = ended.order_by("-finished_at").values_list("workflow", flat=True)[:MOST_ENDS]
        with Learner() as learner:
            for workflow in dict.fromkeys(rows):
                if stopping is not None and stopping.is_set():
                    break
                spent = time.monotonic()
                fold(workflow, learner)
                # Others want the processor, and this thread is in no hurry.
                self.rest(min(2.0, (time.monotonic() - spent) / 2))
        self.looked_until = now
        spent = time.monotonic() - began
        return database_now() + timedelta(seconds=max(LOOK_SECONDS, spent * (1 / SHARE - 1)))


_folder = Folder()


def fold_due(stopping: Event | None = None) -> datetime:
    """Learn from what has ended since this process last looked; gives when to look again. For one thread a process."""
    return _folder.fold_due(stopping)


def fold(workflow_id: UUID, learn: Learn = learn) -> int:
    """Learn from the newest executions of a workflow that it has not been learnt from; gives from how many."""
    workflow = Workflow.objects.filter(pk=workflow_id).exclude(kind=Workflow.Kind.TASKS).first()
    if workflow is None:
        return 0
    known = Experience.objects.filter(workflow=workflow).first()
    fresh = Execution.objects.filter(workflow=workflow, status=Status.COMPLETED, started_at__isnull=False)
    if known is not None and known.folded_until is not None:
        fresh = fresh.filter(finished_at__gt=known.folded_until)
    most = FIRST_RUNS if known is None else MOST_RUNS
    newest_first = fresh.select_related("workflow").defer("inputs", "outputs").order_by("-id")[:most]
    count = 0
    for execution in sorted(newest_first, key=lambda row: (row.finished_at, row.pk)):
        if not _fold_one(execution, learn):
            break
        count += 1
    return count


def _fold_one(execution: Execution, learn: Learn) -> bool:
    """Learn from one execution; False where somebody else has learnt of its workflow meanwhile."""
    workflow = execution.workflow_id
    known = Experience.objects.filter(workflow=workflow).first() or Experience(workflow_id=workflow)
    run = history.run_of(execution)
    calibration = Calibration.of_json(known.calibration)
    kept = 0
    if run is not None:
        shape = history.shape_of(execution.version_id, tracker=execution.workflow.kind == Workflow.Kind.TRACKER)
        kept = history.kept_runs(len(shape.steps))
        # How many slots there were while it ran is not known any more: those of today are taken for it.
        slots = slots_for(execution, database_now())
        calibration = learn(shape, history.past_runs(workflow, kept), run, calibration, slots=slots)
    with transaction.atomic():
        if not _write(known, execution, calibration, learnt=run is not None):
            return False
        if run is not None:
            _keep(execution, run, kept)
    return True


def _write(known: Experience, execution: Execution, calibration: Calibration, *, learnt: bool) -> bool:
    values = {
        "number": known.number + learnt,
        "folded_until": execution.finished_at,
        "calibration": calibration.as_json() if learnt else known.calibration,
    }
    if known.folded_until is None and known.number == 0:
        fresh = Experience(workflow_id=execution.workflow_id, **values)
        _, made = Experience.objects.get_or_create(
            workflow_id=execution.workflow_id, defaults={name: getattr(fresh, name) for name in values}
        )
        return made
    mine = Experience.objects.filter(
        workflow=execution.workflow_id, number=known.number, folded_until=known.folded_until
    )
    return mine.update(**values) == 1


def _keep(execution: Execution, run: Run, most: int) -> None:
    workflow, finished_at = execution.workflow_id, execution.finished_at
    assert finished_at is not None  # noqa: S101 (it has ended)
    PastRun.objects.bulk_create(
        [
            PastRun(
                execution_id=execution.pk,
                workflow_id=workflow,
                finished_at=finished_at,
                seconds=run.seconds,
                steps=history.as_json(run),
            )
        ],
        ignore_conflicts=True,
    )
    old = list(PastRun.objects.filter(workflow=workflow).order_by("-finished_at").values_list("pk", flat=True)[most:])
    if old:
        PastRun.objects.filter(pk__in=old).delete()
    if execution.workflow.kind == Workflow.Kind.WORKFLOW:
        _weigh(workflow, most)


def _weigh(workflow: UUID, most: int) -> None:
    """New weights for executions to come, where those that they would have tell something else by now."""
    now = weights_of(history.past_runs(workflow, most))
    last = newest(workflow)
    key = _ahead()
    if not now or (last is not None and key.int >> 80 < (last[0].int >> 80) + WEIGHTS_EVERY.total_seconds() * 1000):
        return
    if differ(last[1] if last else {}, now):
        StepWeights.objects.create(pk=key, workflow_id=workflow, by_step=now)
        old = StepWeights.objects.filter(workflow=workflow).order_by("-id").values_list("pk", flat=True)
        StepWeights.objects.filter(pk__in=list(old[history.KEPT :])).delete()


def _ahead() -> UUID:
    """The least id of executions that begin some seconds from now."""
    return UUID(int=((uuid7().int >> 80) + AHEAD_MS) << 80)
