"""Why a task that stands in line is not taken: what holds its execution back, limits, and who could take it."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from django.db.models import Q

from apps.accounts.permissions import Permission
from apps.workflows.engine.breaker import WAITS, State
from apps.workflows.engine.graph import StepSpec
from apps.workflows.engine.states import Status
from apps.workflows.models import CircuitBreaker, Execution, Lane, Performer, RateLimit, Task
from apps.workflows.selectors.graphs import graph_of
from apps.workflows.selectors.lanes import standing, unmet
from apps.workflows.selectors.performers import Names
from apps.workflows.selectors.queues import live
from apps.workflows.selectors.rates import next_start

MAX_NAMED = 20  # executions or performers that one reason names

Reason = dict[str, Any]


def reason(code: str, message: str, **details: Any) -> Reason:
    """One reason."""
    return {"code": code, "message": message, **details}


def time(moment: datetime | None) -> str | None:
    """A moment as the API tells it."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def times(moment: datetime | None, name: str) -> dict[str, str]:
    """A detail of a reason, where there is such a moment."""
    return {} if moment is None else {name: str(time(moment))}


class Line:
    """The line as the tasks of one execution see it. What it needs is read when it is first needed."""

    def __init__(self, user: Any, execution: Execution, now: datetime) -> None:
        self.user, self.execution, self.now = user, execution, now
        self.names = Names(user)
        self._lanes: dict[str, Lane] = {}
        self._performers: list[Performer] | None = None
        self._breakers: dict[str, CircuitBreaker | None] = {}
        self._rates: dict[str, datetime | None] = {}
        self._held_back: list[Reason] | None = None
        self._before: int | None = None

    def reasons(self, task: Task, spec: StepSpec) -> Iterator[Reason]:
        """Why a claimable task is not taken."""
        found = [*self.held_back(), *self._limits(task, spec), *self._performers_for(task, spec)]
        if found:
            yield from found
        else:
            before = self._executions_before()
            message = "nothing stands in its way: it is taken with the next claim"
            if before:
                message = f"nothing but {before:,} executions of its workflow that stand in line before it"
            yield reason("ready", message, executions_before=before)

    # -- the execution -----------------------------------------------------------------------------------------------

    def held_back(self) -> list[Reason]:
        """What keeps the whole execution from starting anything."""
        if self._held_back is None:
            self._held_back = []
            if self.execution.held:
                self._held_back.append(self._concurrency())
            if self.execution.status == Status.PAUSED:
                message = f"its execution is paused: POST /executions/{self.execution.pk}/resume"
                self._held_back.append(reason("paused", message, execution_id=self.execution.pk))
        return self._held_back

    def _concurrency(self) -> Reason:
        execution = self.execution
        limit = graph_of(execution.version_id).concurrency
        alike = Execution.objects.filter(
            workflow_id=execution.workflow_id, concurrency_key=execution.concurrency_key, finished_at__isnull=True
        )
        holding = alike.filter(held=False)
        readable = holding.visible_to(self.user, Permission.WORKFLOW_READ).order_by("pk")
        holders = list(readable.values_list("pk", flat=True)[:MAX_NAMED])
        first = Q(priority__gt=execution.priority) | Q(priority=execution.priority, pk__lt=execution.pk)
        before = alike.filter(held=True).filter(first).count()
        most, key = limit.limit if limit else 1, execution.concurrency_key.removeprefix("=")
        message = (
            f"{holding.count():,} executions with the concurrency key `{key[:100]}` run, and the limit is {most:,}: it "
            f"begins when one of them has ended, after {before:,} others that wait; or cancel one of them"
        )
        return reason("concurrency", message, key=key, limit=most, holders=holders, waiting_before=before)

    # -- limits and the queue ----------------------------------------------------------------------------------------

    def _limits(self, task: Task, spec: StepSpec) -> Iterator[Reason]:
        later = task.ready_at if task.ready_at is not None and task.ready_at > self.now else None
        if open_ := self._open_breakers(spec):
            yield from open_
            later = None if task.waiting_for.startswith(WAITS) else later
        if later is not None and task.waiting_for == "retry":
            message = f"attempt {task.fence} failed; it is tried again at {time(later)}"
            yield reason("retry", message, at=time(later), failures=task.failures, error=task.error)
        elif spec.rate is not None:
            at = max(later or self.now, next_start(spec.rate, self._free_at(spec.rate.name), self.now))
            if at > self.now:
                most = f"{spec.rate.per_minute:,} starts a minute"
                message = f"the rate limit `{spec.rate.name}` ({most}) lets the next step start at {time(at)}"
                yield reason("rate", message, name=spec.rate.name, per_minute=spec.rate.per_minute, at=time(at))
        elif later is not None:
            yield reason("retry", f"it may start from {time(later)} on", at=time(later), failures=task.failures)
        if self._lane(task).paused:
            message = f"the queue `{task.queue}` is paused: POST /queues/{task.queue}/resume (needs system:update)"
            yield reason("queue_paused", message, queue=task.queue)

    def _open_breakers(self, spec: StepSpec) -> list[Reason]:
        for guard in spec.breakers:
            if guard.name not in self._breakers:
                row = CircuitBreaker.objects.filter(pk=guard.name).exclude(state=State.CLOSED).first()
                self._breakers[guard.name] = row
        rows = [row for guard in spec.breakers if (row := self._breakers[guard.name])]
        return [_breaker(row) for row in rows]

    def _free_at(self, name: str) -> datetime | None:
        if name not in self._rates:
            self._rates[name] = RateLimit.objects.filter(pk=name).values_list("free_at", flat=True).first()
        return self._rates[name]

    def _lane(self, task: Task) -> Lane:
        if task.lane not in self._lanes:
            found = Lane.objects.filter(pk=task.lane).first()
            self._lanes[task.lane] = found or Lane(key=task.lane, queue=task.queue, requires=[], prefers=[])
        return self._lanes[task.lane]

    # -- performers --------------------------------------------------------------------------------------------------

    def _performers_for(self, task: Task, spec: StepSpec) -> Iterator[Reason]:
        if self._performers is None:
            self._performers = list(live(self.now))
        lane = self._lane(task)
        awake = [one for one in self._performers if one.kind == lane.kind and not one.draining]
        serving = [one for one in awake if one.queues is None or task.queue in one.queues]
        able = {one.name: how for one in serving if (how := standing(lane, one))}
        if not serving:
            yield self._nobody(task, lane, awake=len(awake))
        elif not able:
            yield self._labels(lane, serving)
        elif all(one.load >= one.slots for one in serving if one.name in able):
            yield self._busy([one for one in serving if one.name in able])
        elif all(how == "later" for one in serving if one.load < one.slots and (how := able.get(one.name))):
            message = "whoever has room lacks what the step prefers, and takes it after some seconds in line"
            yield reason("preference", message, prefers=list(spec.prefers))

    def _nobody(self, task: Task, lane: Lane, *, awake: int) -> Reason:
        if lane.kind == "agent":
            message = "no agent is live: register one (`POST /agents`), or start the program that claims as one"
            return reason("no_performer", message, queue=task.queue, live=0, draining=0)
        draining = sum(one.kind == lane.kind for one in self._performers or ()) - awake
        others = f"; {awake} live performers serve other queues" if awake else "; no performer is live"
        others += f", {draining} are draining" if draining else ""
        fix = "start a worker" if task.queue == "default" else f"start a worker for it (`worker --queues {task.queue}`)"
        message = f"no live performer serves the queue `{task.queue}`{others}: {fix}"
        return reason("no_performer", message, queue=task.queue, live=awake, draining=draining)

    def _labels(self, lane: Lane, serving: list[Performer]) -> Reason:
        lacking = {one.name: unmet(lane.requires, one.labels) for one in serving}
        nearest, lacks = min(lacking.items(), key=lambda one: (len(one[1]), one[0]))
        nobody = [text for text in lane.requires if all(text in missing for missing in lacking.values())]
        shown = ", ".join(f"`{text}`" for text in nobody or lane.requires)
        who = "an agent" if lane.kind == "agent" else "a worker"
        met = "which no live performer of the queue meets" if nobody else "which none of them meets together"
        whose = f"the nearest, {nearest}, lacks" if lane.kind in self.names.kinds else "the nearest lacks"
        message = f"the step requires {shown}, {met}; {whose} {', '.join(f'`{text}`' for text in lacks)}: give"
        return reason(
            "labels", f"{message} {who} these labels, or change `requires`", requires=list(lane.requires), unmet=nobody,
            lacks=lacks, performers=len(serving), **self._named(lane.kind, "nearest", nearest),
        )  # fmt: skip

    def _busy(self, able: list[Performer]) -> Reason:
        before = self._executions_before()
        slots = sum(one.slots for one in able)
        message = (
            f"all {len(able):,} performers that could take it are full ({slots:,} slots), and {before:,} executions of "
            f"its workflow stand in line before it: wait, give it a higher priority, or start more {able[0].kind}s"
        )
        full = [{"name": one.name, "load": one.load, "slots": one.slots} for one in able[:MAX_NAMED]]
        return reason(
            "busy", message, performers=len(able), slots=slots, executions_before=before,
            **self._named(able[0].kind, "full", full),
        )  # fmt: skip

    def _named(self, kind: str, key: str, value: Any) -> Mapping[str, Any]:
        return {key: value} if kind in self.names.kinds else {}

    def _executions_before(self) -> int:
        """How many executions of its workflow have a task to claim and stand in line before it."""
        if self._before is None:
            row = self.execution
            first = Q(rank__lt=row.rank) | Q(rank=row.rank, pk__lt=row.pk) if row.rank else Q(rank__isnull=False)
            line = Execution.objects.filter(workflow_id=row.workflow_id, ready_at__lte=self.now)
            self._before = line.filter(first).exclude(pk=row.pk).count()
        return self._before


def _breaker(row: CircuitBreaker) -> Reason:
    """Of a breaker that is not closed."""
    reset = f"POST /circuit-breakers/{row.name}/reset (needs monitoring:update) closes it at once"
    if row.state == State.HALF_OPEN:
        message = f"the circuit breaker `{row.name}` is half-open: one step goes through as a probe, and this one waits"
    elif row.probe_at is None:
        message = f"the circuit breaker `{row.name}` was opened by hand, until somebody resets it"
    else:
        message = f"the circuit breaker `{row.name}` is open ({_WHY_OPEN.get(row.reason, row.reason)}); a step goes"
        message += f" through as a probe at {time(row.probe_at)}"
    return reason(
        "breaker", f"{message}. {reset}", name=row.name, state=row.state, since=time(row.since),
        **times(row.probe_at, "probe_at"), **({"error_type": row.error_type} if row.error_type else {}),
    )  # fmt: skip


_WHY_OPEN = {
    "failures": "too many of its calls failed",
    "unavailable": "what it guards is not there",
    "probe_failed": "its last probe failed",
    "manual": "by hand",
}
