"""The platform's own families filled with samples: the facts of the database, and what this server process knows."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from apps.core import metrics
from apps.monitoring import facts as database
from apps.monitoring import system
from apps.monitoring.facts import Facts
from apps.monitoring.families import FROM_THE_DATABASE, OF_THE_PROCESS, OFFERED, OURS, Declared
from apps.monitoring.sums import Durations
from apps.workflows.engine.breaker import State
from apps.workflows.selectors.estimates.outcomes import ERROR_BOUNDS, Outcomes
from apps.workflows.selectors.statistics import EXECUTION_BOUNDS, STEP_BOUNDS, WAIT_BOUNDS
from apps.workflows.services import counting

PREFIX = "dagger_"

Samples = Mapping[Any, "float | Durations"]
"""Keys are the values of the labels, in the order of the family."""

BOUNDS: Mapping[str, tuple[float, ...]] = {
    "dagger_workflow_execution_duration_seconds": EXECUTION_BOUNDS,
    "dagger_step_execution_duration_seconds": STEP_BOUNDS,
    "dagger_step_queue_duration_seconds": WAIT_BOUNDS,
    "dagger_eta_error_ratio": ERROR_BOUNDS,
}
"""The upper bounds of each histogram, in seconds; of a ratio without a unit."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A family with its samples; of a histogram they are `Durations`."""

    declared: Declared
    samples: Samples


def ours() -> Iterator[Filled]:
    """Every family of the platform's own: facts of the last second, the same from every replica, then this process."""
    return (_filled(declared) for declared in OURS)


def find(name: str) -> Filled | None:
    """The family that is called `name`, or one of whose samples is; None when there is none.

    The database is asked only for a name that is in the table of families.
    """
    declared = next((one for one in OURS if name in (one.family, one.name, *one.samples)), None)
    return _filled(declared) if declared is not None else None


def _filled(declared: Declared) -> Filled:
    if declared in FROM_THE_DATABASE:
        return Filled(declared, _FACTS[declared.name](database.cache.get()))
    if declared in OF_THE_PROCESS:
        return Filled(declared, system.readings().get(declared.name, {}))
    assert declared in OFFERED  # noqa: S101 (`OURS` has nothing else)
    return Filled(declared, metrics.offered(declared.name))


# --- from facts to samples ------------------------------------------------------------------------------------------


def _errors(found: Outcomes) -> Durations:
    """Errors as a histogram has them: its sums are exact in millionths, of seconds as of ratios."""
    return Durations(list(found.within), found.count, round(found.total * 1_000_000))


def _by_one(values: Mapping[str, Any]) -> Samples:
    return {(label,): value for label, value in values.items()}


def _figure(name: str) -> Callable[[Facts], Samples]:
    return lambda facts: {(): facts.figures[name]} if name in facts.figures else {}


_FACTS: Mapping[str, Callable[[Facts], Samples]] = {
    "dagger_workflow_executions_total": lambda facts: facts.executions,
    "dagger_workflow_execution_duration_seconds": lambda facts: _by_one(facts.execution_seconds),
    "dagger_step_executions_total": lambda facts: facts.steps,
    "dagger_step_execution_duration_seconds": lambda facts: facts.step_seconds,
    "dagger_step_retries_total": lambda facts: facts.retries,
    "dagger_step_queue_duration_seconds": lambda facts: _by_one(facts.wait_seconds),
    "dagger_errors_total": lambda facts: _by_one(facts.errors),
    "dagger_concurrent_workflows": lambda facts: {(): facts.concurrent_workflows},
    "dagger_concurrent_steps": lambda facts: {(): facts.concurrent_steps},
    "dagger_stalled_workflows": lambda facts: {(): facts.stalled_workflows},
    "dagger_queue_depth": lambda facts: {(queue,): backlog.depth for queue, backlog in facts.queues.items()},
    "dagger_queue_oldest_task_age_seconds": lambda facts: {
        (queue,): backlog.oldest_seconds for queue, backlog in facts.queues.items()
    },
    "dagger_circuit_breaker_state": lambda facts: {
        (one.name, state.value): one.state == state for one in facts.breakers for state in State
    },
    "dagger_circuit_breaker_failure_ratio": lambda facts: {(one.name,): one.failure_ratio for one in facts.breakers},
    "dagger_circuit_breaker_calls_total": lambda facts: {
        (one.name, result): count for one in facts.breakers for result, count in one.calls_total.items()
    },
    "dagger_circuit_breaker_transitions_total": lambda facts: {
        (one.name, state): count for one in facts.breakers for state, count in one.moves_total.items()
    },
    "dagger_workers": lambda facts: _by_one(facts.workers),
    "dagger_eta_error_ratio": lambda facts: {(): _errors(facts.estimates)},
    "dagger_eta_interval_total": lambda facts: {
        ("true",): facts.estimates.covered,
        ("false",): facts.estimates.missed,
    },
    "dagger_workers_lost_total": _figure(counting.WORKERS_LOST),
    "dagger_agents": lambda facts: _by_one(facts.agents.states),
    "dagger_agent_slots": lambda facts: {(): facts.agents.slots},
    "dagger_agent_slots_used": lambda facts: {(): facts.agents.used},
    "dagger_scheduler_last_tick_timestamp_seconds": _figure(counting.SCHEDULER_TICK),
    "dagger_schedules_missed_total": _figure(counting.SCHEDULES_MISSED),
    "dagger_metrics_label_overflow_total": lambda facts: {(): facts.overflow},
    "dagger_metrics_last_collect_timestamp_seconds": lambda facts: {(): facts.at},
}
