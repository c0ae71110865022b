"""I3 to I8 and I12, as one execution's journal shows them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from apps.workflows.engine.graph import StepSpec
from apps.workflows.engine.ids import step_of
from apps.workflows.engine.states import TERMINAL, Status
from apps.workflows.models import Event, Execution
from apps.workflows.selectors.graphs import graph_of
from apps.workflows.selectors.invariants.violation import Violation

# How a task begins, or ends without an attempt: none of it before its dependencies have ended.
_BEGINS = frozenset({"task.started", "task.waiting", "task.completed", "task.skipped", "task.child_started"})
_STARTS = frozenset({"task.started", "task.child_started"})


@dataclass(slots=True)
class Journal:
    """What folding a journal gives: of each task that is told of the last status and attempt; of the whole its end."""

    lines: int = 0
    statuses: dict[str, str] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)  # by task; by "" the execution
    percent: float = 0.0
    standing: str = ""  # the status of the execution
    stopping: bool = False


def read_journal(row: Execution, events: Iterable[Event], violations: list[Violation]) -> Journal:
    """Fold it, and add what does not hold."""
    journal = Journal()
    violations += _fold(row, events, journal)
    return journal


def _fold(row: Execution, events: Iterable[Event], journal: Journal) -> Iterator[Violation]:
    graph = graph_of(row.version_id)
    ended, gap = journal.ended, False

    def wrong(found: tuple[str, str]) -> Violation:
        return Violation(invariant=found[0], execution_id=str(row.pk), what=found[1])

    for event in events:
        step, status = event.step_id, event.data.get("status")
        # Read outside of one moment the row may be older than its journal: what came later is not looked at.
        if event.seq > row.seq:
            continue
        journal.lines += 1
        gap = gap or event.seq != journal.lines
        if ended.get(""):
            yield wrong(("I5", f"line {event.seq}: {event.type} after the end"))
        overall = event.data.get("overall_percent", journal.percent)
        if overall < journal.percent:
            yield wrong(("I7", f"line {event.seq}: {journal.percent} % fell to {overall} %"))
        journal.percent = overall
        journal.stopping = journal.stopping or event.type in ("execution.cancel_requested", "execution.timeout")
        if step:
            spec = graph.steps.get(step_of(step))
            yield from map(wrong, _of_task(event, spec, journal) if spec else ())
            journal.attempts[step] = int(event.data.get("attempt") or 0)
            journal.statuses[step] = str(status or journal.statuses.get(step, ""))
        else:
            journal.standing = str(status or journal.standing)
        if status in TERMINAL:
            if step in ended and step:
                yield wrong(("I3", f"line {event.seq}: {step} ended twice, {ended[step]} and {status}"))
            ended[step] = str(status)
    if gap or journal.lines != row.seq:
        yield wrong(("I6", f"its journal has {journal.lines} lines up to number {row.seq}"))


def _of_task(event: Event, spec: StepSpec, journal: Journal) -> Iterator[tuple[str, str]]:
    """(invariant, what does not hold) of a line about a task, given all before it."""
    step, line = event.step_id, f"line {event.seq}: {event.type}"
    if step in journal.ended and event.data.get("status") not in TERMINAL:
        yield "I5", f"{line} of {step}, which had ended as {journal.ended[step]}"
    if event.type in _BEGINS and (missing := [name for name in spec.depends_on if name not in journal.ended]):
        yield "I8", f"{line} of {step} before {', '.join(missing)} had ended"
    if event.type in _STARTS and journal.stopping:
        yield "I12", f"line {event.seq}: {step} started after the cancel"
    if event.type == "task.started" and journal.statuses.get(step) == Status.IN_PROGRESS:
        yield "I8", f"line {event.seq}: {step} started again while it was under way"
    attempt, current = event.data.get("attempt"), journal.attempts.get(step, 0)
    if event.type == "task.started" and attempt != current + 1:
        yield "I4", f"line {event.seq}: attempt {attempt} of {step} follows {current}"
    elif event.type != "task.started" and attempt not in (None, current):
        yield "I4", f"{line} of attempt {attempt} of {step}; {current} is current"
