"""The platform's own families filled with samples: the facts of the database, and what this server process knows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from apps.monitoring import facts as database
from apps.monitoring import system
from apps.monitoring.facts import Durations, Facts
from apps.monitoring.families import FROM_THE_DATABASE, OF_THE_PROCESS, Family
from apps.workflows.engine.breaker import State
from apps.workflows.selectors.statistics import EXECUTION_BOUNDS, STEP_BOUNDS

PREFIX = "dagger_"


class DatabaseCollector(Collector):
    """Facts about executions: the same from every replica, whatever was restarted, killed or never scraped."""

    def describe(self) -> Iterable[Metric]:
        """The families without samples; asks nothing of the database."""
        return [declared.empty() for declared in FROM_THE_DATABASE]

    def collect(self) -> Iterator[Metric]:
        """The families with the facts of the last second."""
        facts = database.cache.get()
        for declared in FROM_THE_DATABASE:
            family = declared.empty()
            _fill(family, _FACTS[declared.name](facts))
            yield family


class ProcessCollector(Collector):
    """What this server process knows: its build, its host, its trace exporter."""

    def describe(self) -> Iterable[Metric]:
        """The families without samples."""
        return [declared.empty() for declared in OF_THE_PROCESS]

    def collect(self) -> Iterator[Metric]:
        """The families as they are now."""
        known = system.readings()
        for declared in OF_THE_PROCESS:
            family = declared.empty()
            _fill(family, known.get(declared.name, {}))
            yield family


class Everything(Collector):
    """The platform's own families, then those of the process registry (HTTP, Python, the process)."""

    def collect(self) -> Iterator[Metric]:
        """Every family, each once."""
        yield from ours.collect()
        yield from REGISTRY.collect()


class Ours(Collector):
    """The families whose names begin with `dagger_`."""

    def __init__(self, *parts: DatabaseCollector | ProcessCollector) -> None:
        self.parts = parts

    def collect(self) -> Iterator[Metric]:
        """The platform's own families."""
        for part in self.parts:
            yield from part.collect()


class One(Collector):
    """A single family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        """That family."""
        yield self._family


ours = Ours(DatabaseCollector(), ProcessCollector())
everything = Everything()


def find(name: str, *, within: Ours | Everything) -> One | None:
    """The family that is called `name`, or one of whose samples is; None when there is none.

    The database is asked only for a name that is in the table of families.
    """
    sources: list[Collector] = [part for part in ours.parts if any(_bears(empty, name) for empty in part.describe())]
    if within is everything:
        sources.append(REGISTRY)
    return next((One(family) for source in sources for family in source.collect() if _bears(family, name)), None)


_SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
    "summary": ("_count", "_sum"),
    "info": ("_info",),
}


def _bears(family: Metric, name: str) -> bool:
    """Whether `name` is the family's, or that of samples it can have."""
    return name == family.name or name in (f"{family.name}{suffix}" for suffix in _SUFFIXES.get(family.type, ()))


# --- filling --------------------------------------------------------------------------------------------------------

_Samples = Mapping[Any, float | Durations]  # keys are tuples of labels


def _fill(family: Family, samples: _Samples) -> None:
    for labels, value in samples.items():
        if isinstance(family, HistogramMetricFamily):
            assert isinstance(value, Durations)  # noqa: S101 (the table and the facts agree on it)
            family.add_metric(labels, buckets=_buckets(family.name, value), sum_value=value.microseconds / 1_000_000)
        elif isinstance(family, CounterMetricFamily | GaugeMetricFamily):
            assert not isinstance(value, Durations)  # noqa: S101
            family.add_metric(labels, value)


def _texts(bounds: Sequence[float]) -> list[str]:
    return [str(floatToGoString(bound)) for bound in bounds]  # type: ignore[no-untyped-call]


_BOUNDS = {
    "dagger_workflow_execution_duration_seconds": _texts(EXECUTION_BOUNDS),
    "dagger_step_execution_duration_seconds": _texts(STEP_BOUNDS),
}


def _buckets(name: str, durations: Durations) -> list[tuple[str, float]]:
    return [*zip(_BOUNDS[name], map(float, durations.within), strict=True), ("+Inf", float(durations.count))]


def _by_one(values: Mapping[str, float | Durations]) -> _Samples:
    return {(label,): value for label, value in values.items()}


_FACTS: Mapping[str, Callable[[Facts], _Samples]] = {
    "dagger_workflow_executions_total": lambda facts: facts.executions,
    "dagger_workflow_execution_duration_seconds": lambda facts: _by_one(facts.execution_seconds),
    "dagger_step_executions_total": lambda facts: facts.steps,
    "dagger_step_execution_duration_seconds": lambda facts: facts.step_seconds,
    "dagger_step_retries_total": lambda facts: facts.retries,
    "dagger_errors_total": lambda facts: _by_one(facts.errors),
    "dagger_concurrent_workflows": lambda facts: {(): facts.concurrent_workflows},
    "dagger_concurrent_steps": lambda facts: {(): facts.concurrent_steps},
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
    "dagger_metrics_last_collect_timestamp_seconds": lambda facts: {(): facts.at},
}
