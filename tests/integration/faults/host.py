"""A worker without executors and without a process of its own: the order of its calls is that of `workers.ledger`."""

from django.db import DatabaseError, connection

from apps.core.clock import database_now
from apps.workflows.engine.types import Completed, Failed, Progressed, Reject, Stopped
from apps.workflows.services import leases
from apps.workflows.services.ledger import Report, Wanted, turn

LEASE = 30.0  # seconds
SWEEP = 5.0


def completed(task, **outputs):
    return Completed(step_id=task.step_id, fence=task.fence, outputs=outputs)


def failed(task, **error):
    error = {"type": "error", "message": "no", "retryable": True, **error}
    return Failed(step_id=task.step_id, fence=task.fence, error=error)


class Host:
    """Takes what is ready, performs it as `act(task)` says, and does the chores of a worker when nothing is ready."""

    def __init__(self, name, act=completed, *, slots=2):
        self.name, self.act, self.slots = name, act, slots
        self.held = {}
        self.reports = []
        self.performed = []
        self.refused = []
        self._unsure = False
        self.look = True

    def round(self):
        """Beat, report and claim, perform; gives whether anything moved."""
        try:
            if self._unsure:
                leases.give_back_unknown(self.name, {task: held.fence for task, held in self.held.items()})
                self._unsure = False
            moved = self._round()
        except DatabaseError:
            # As a worker: the same again, by another connection.
            connection.close()
            self._unsure = True
            return True
        return moved

    def _round(self):
        stopped = self.beat()
        reports = list(self.reports)
        ended = sum(not isinstance(report.happening, Progressed) for report in reports)
        # As a worker that goes on with what its own reports made ready, and looks at the line in its next turn.
        look = self.look or not reports
        answer = turn(reports, self.wanted(max(0, self.slots - len(self.held) + ended), look=look))
        self.look = bool(reports) and not answer.claimed
        self.reports = []
        for report, told in zip(reports, answer.answers, strict=True):
            if not isinstance(report.happening, Progressed):
                self.held.pop(report.task_id, None)
            self.heard(report, told)
            if isinstance(told, Reject):
                self.refused.append((report, told))
        for task in answer.claimed:
            self.held[task.task_id] = task
            self.performed.append((task.execution_id, task.step_id, task.fence))
        for identity, task in list(self.held.items()):
            happening = Stopped(step_id=task.step_id, fence=task.fence) if identity in stopped else self.act(task)
            if happening is not None:
                self.reports.append(Report(task_id=identity, happening=happening))
        return bool(reports or answer.claimed)

    def heard(self, report, told):
        """An answer to a report; who wants to know overrides it."""

    def wanted(self, slots, *, look):
        return Wanted(owner=self.name, slots=slots, lease_seconds=LEASE, idle=not self.held, look=look)

    def beat(self):
        """Extend its leases; gives what is to be stopped."""
        held = [(identity, task.fence) for identity, task in self.held.items()]
        answer = leases.beat(owner=self.name, kind="worker", slots=self.slots, held=held, lease_seconds=LEASE)
        for task in answer.lost:
            self.held.pop(task, None)
        return set(answer.cancel)

    def chores(self):
        """What any worker does now and then."""
        try:
            leases.wake(database_now())
            leases.reap()
        except DatabaseError:
            connection.close()
