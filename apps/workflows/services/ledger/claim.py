"""What a performer takes: tasks that its own reports made ready, then those of the line, shared fairly."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from apps.workflows.engine.breaker import WAITS
from apps.workflows.engine.expressions import NO_ITEM, Context, ExpressionError, render
from apps.workflows.engine.moves import claimable, context_of
from apps.workflows.engine.types import Accept, Claimed, Deferred, Failed
from apps.workflows.models import CircuitBreaker
from apps.workflows.selectors.graphs import readable, slug_of
from apps.workflows.services.ledger import breakers, lanes, rates, sql
from apps.workflows.services.ledger.unit import Unit, lease_until

MAX_LINE = 16  # executions of a workflow looked at by one claim
STARVING_AFTER = timedelta(minutes=1)
# A task whose performers died this often is suspected of it: it is taken by an idle performer, which then takes
# nothing else, so that it harms no other; after a minute in line by any.
SUSPECT_AFTER = 2
PATIENCE_WITH_SUSPECTS = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a performer would take: at most `slots` tasks, of `queues` (None: all), leased for `lease_seconds`.

    `labels` are its own; `idle` says that it holds nothing at present. With `look` false it takes only what becomes
    ready by its own reports, and looks at no other execution.
    """

    owner: str
    slots: int
    lease_seconds: float
    kind: str = "worker"
    queues: tuple[str, ...] | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)
    idle: bool = True
    look: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedTask:
    """A task under a lease, with its configuration resolved.

    Where the configuration names secrets it is left as it is written: who performs the task replaces its `${…}` by
    `context` and these secrets, at the last moment, so that no value of a secret is ever in the ledger.
    """

    task_id: UUID
    fence: int
    execution_id: UUID
    workflow_slug: str
    step_id: str
    kind: str
    config: Any
    stdin: bytes
    timeout_seconds: float | None
    lease_expires_at: datetime
    trace_id: str
    secrets: frozenset[str] = frozenset()
    context: Context | None = None


class _Claim:
    """What one claim takes, and why it passes over the rest."""

    def __init__(self, unit: Unit, wanted: Wanted, tripped: frozenset[str]) -> None:
        self.unit, self.wanted = unit, wanted
        self.breakers = breakers.Asking(unit, tripped)
        self.lanes = lanes.served(wanted)
        self.taken: list[tuple[UUID, str]] = []
        self._refused: Counter[str] = Counter()  # by rate limit
        self._alone = False  # it took a task that must be alone

    @property
    def free(self) -> int:
        """How many more may be taken."""
        return 0 if self._alone else self.wanted.slots - len(self.taken)

    def of_what_became_ready(self) -> None:
        """Take what this very transaction made ready."""
        for execution, held in list(self.unit.held.items()):
            for name in held.became_ready:
                self._take(execution, name)

    def of_the_line(self) -> None:
        """Take from the first executions of each workflow's line; the free slots are shared out among workflows."""
        unit = self.unit
        waiting = sql.waiting_workflows(unit.cursor, now=unit.now)
        order = fair_order(waiting, now=unit.now)
        while order and self.free > 0:
            some, order = order[: self.free], order[self.free :]
            share = -(-self.free // len(some))
            line: list[tuple[sql.ExecutionRow, int]] = []
            for one in some:
                limit = min(MAX_LINE, share)
                rows = sql.lock_line(unit.cursor, one.workflow, now=unit.now, limit=limit, lanes=self.lanes)
                unit.line_goes_on = unit.line_goes_on or len(rows) == limit
                line += [(row, -(-share // len(rows))) for row in rows]
            if line:
                self._of_executions(line)
        unit.line_goes_on = unit.line_goes_on or bool(order)

    def _of_executions(self, line: Sequence[tuple[sql.ExecutionRow, int]]) -> None:
        unit = self.unit
        # What this code cannot read stays in line, for code that can, and stops nobody who stands behind it.
        shares = {row.id: share for row, share in line if readable(row.version_id)}
        if not shares:
            return
        unit.hold(row for row, _ in line if row.id in shares)
        for row in unit.take(sql.ready_tasks(unit.cursor, shares, now=unit.now, lanes=self.lanes)):
            self._take(row.execution_id, row.state.step_id)
        # An execution that stands in line without a task to claim gets its true place.
        for identity in shares:
            unit.held[identity].claimed = unit.held[identity].dirty = True

    def _take(self, execution: UUID, name: str) -> None:
        unit, wanted = self.unit, self.wanted
        held = unit.held[execution]
        task, spec = held.tasks[name], unit.spec(execution, name)
        if self.free <= 0 or not claimable(spec, task) or task.ready_at is None or task.ready_at > unit.now:
            return
        if not lanes.serves(task.lane, self.lanes):
            return
        suspect = task.losses >= SUSPECT_AFTER and unit.now - task.ready_at < PATIENCE_WITH_SUSPECTS
        if suspect and (self.taken or not wanted.idle):
            return
        probes: Sequence[CircuitBreaker] = ()
        if spec.breakers:
            answer = self.breakers.ask(spec.breakers)
            if isinstance(answer, breakers.Kept):
                self._put_off(execution, name, answer.until, f"{WAITS}{answer.name}")
                return
            probes = answer.probes
        if spec.rate is not None:
            until = rates.take(spec.rate, now=unit.now, refused=self._refused[spec.rate.name])
            if until is not None:
                self._refused[spec.rate.name] += 1
                self._put_off(execution, name, until, f"rate:{spec.rate.name}")
                return
        claim = Claimed(
            step_id=name,
            owner=wanted.owner,
            lease_expires_at=lease_until(unit.now, wanted.lease_seconds),
            probes=tuple(row.name for row in probes),
        )
        if isinstance(unit.happen(execution, claim), Accept):
            if probes:
                self.breakers.start(probes, held.task_id(name), held.tasks[name].fence)
            held.claimed = True
            self._alone = suspect
            self.taken.append((execution, name))

    def _put_off(self, execution: UUID, name: str, until: datetime, waiting_for: str) -> None:
        """It comes later; what stands behind it may be claimed."""
        self.unit.happen(execution, Deferred(step_id=name, until=until, waiting_for=waiting_for))
        self.unit.held[execution].claimed = self.unit.put_off = True


def fair_order(waiting: Sequence[sql.Waiting], *, now: datetime) -> list[sql.Waiting]:
    """Whose turn it is among workflows.

    First those that have waited long with nothing in flight, whatever their priority: nobody starves. Then by the
    priority of their first execution, then those with the least in flight: a workflow with a thousand executions
    delays another by at most its fair share.
    """

    def key(one: sql.Waiting) -> tuple[Any, ...]:
        if one.ready_at is None or one.rank is None:
            return ()
        starves = not one.in_flight and now - one.ready_at > STARVING_AFTER
        return (0, 0, 0, one.ready_at) if starves else (1, -one.priority, one.in_flight, one.rank)

    return sorted(waiting, key=key)


def claim(unit: Unit, wanted: Wanted, tripped: frozenset[str] = frozenset()) -> list[tuple[UUID, str]]:
    """Take tasks; gives them by execution and name. `tripped` are breakers that open by this transaction."""
    claiming = _Claim(unit, wanted, tripped)
    claiming.of_what_became_ready()
    if wanted.look and claiming.free > 0:
        claiming.of_the_line()
    elif wanted.look:
        unit.looked = False
    claiming.breakers.end()
    return claiming.taken


def resolve(unit: Unit, taken: Sequence[tuple[UUID, str]]) -> tuple[ClaimedTask, ...]:
    """The claimed tasks with their `${…}` replaced; one whose expressions fail ends here, and so does its attempt."""
    if not taken:
        return ()
    needed = []
    for execution, step in taken:
        spec = unit.spec(execution, step)
        needed += [(execution, read) for read in spec.reads]
        needed += [(execution, read) for read in spec.depends_on] if spec.takes_stdin else []
        unit.held[execution].read_items([step])
    unit.read_outputs(needed)
    claimed = []
    for execution, step in taken:
        held, spec = unit.held[execution], unit.spec(execution, step)
        task = held.tasks[step]
        try:
            config, context = spec.config, None
            if spec.has_templates:
                context = context_of(held.snapshot(), held.items.get(step, NO_ITEM))
                config = config if spec.secrets else render(config, context)
        except ExpressionError as wrong:
            error = {"type": "invalid", "message": str(wrong), "retryable": False}
            unit.happen(execution, Failed(step_id=step, fence=task.fence, error=error))
            continue
        assert task.lease_expires_at is not None  # noqa: S101 (a claim sets it)
        claimed.append(
            ClaimedTask(
                task_id=held.task_id(step),
                fence=task.fence,
                execution_id=execution,
                workflow_slug=slug_of(held.row.workflow_id),
                step_id=step,
                kind=spec.kind,
                config=config,
                stdin=_stdin(held.outputs, spec.depends_on) if spec.takes_stdin else b"",
                timeout_seconds=spec.timeout_seconds,
                lease_expires_at=task.lease_expires_at,
                trace_id=held.row.trace_id,
                secrets=spec.secrets,
                context=context if spec.secrets else None,
            )
        )
    return tuple(claimed)


def _stdin(outputs: Any, depends_on: Sequence[str]) -> bytes:
    """What a command reads: its single dependency's standard output (or outputs as JSON), or one object of several."""

    def one(step: str) -> Any:
        left = outputs.get(step) or {}
        stdout = left.get("stdout")
        # Of a large one there is a reference: who performs the task reads it.
        return stdout if isinstance(stdout, str) or (isinstance(stdout, dict) and "spilled_to" in stdout) else left

    if not depends_on:
        return b""
    piped = one(depends_on[0]) if len(depends_on) == 1 else {step: one(step) for step in depends_on}
    text = piped if isinstance(piped, str) else json.dumps(piped, ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")
