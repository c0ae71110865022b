"""The shape of a version: its steps, who waits for whom, and each step's rules. Immutable, cached by version id."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

On = Literal["success", "failure", "always"]

# The kinds that the engine sees to itself.
OWN_KINDS = frozenset({"wait", "approval", "workflow"})
MOST_AT_ONCE = 1000  # items of one step that have tasks and have not ended, unless `max_parallel` says less


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a failed attempt is tried again. Delays are in seconds.

    The n-th retry waits `min(max_delay, delay * backoff ** (n - 1))`, drawn uniformly from 0 up to that when `jitter`
    ("full jitter", M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    `lost` is the separate budget for performers that died.
    """

    retries: int = 0
    delay: float = 0.0
    backoff: float = 1.0
    max_delay: float = 3600.0
    jitter: bool = False
    on: frozenset[str] = frozenset()
    not_on: frozenset[str] = frozenset()
    lost: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    """Results are used again for `ttl` seconds where `key`, a template, has the same value.

    `definition` is SHA-256 over the step as it is written: a step that was changed shares nothing with what it was.
    """

    key: Any
    ttl: float
    definition: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most `per_minute` starts a minute among all steps that name it, `burst` of them at once."""

    name: str
    per_minute: int
    burst: int = 1


COUNTED = frozenset(
    {"unavailable", "timeout", "connection", "http_status"}
    | {"ConnectionError", "ConnectionRefusedError", "ConnectionResetError", "TimeoutError"}
)
"""What speaks against a dependency, unless a breaker's `on` says otherwise: types of errors, and what Python raises."""


REGISTRY_UNREACHED = "RegistryUnreached"
"""What a container step's error is called where its image's registry did not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """A circuit breaker, shared by name, that a step asks before it starts; `on` are the errors that count.

    Thresholds that are None leave the breaker's own as they are (`engine.breaker.Policy`).
    """

    name: str
    failures: int | None = None
    ratio: float | None = None
    window_seconds: float | None = None
    open_seconds: float | None = None
    on: frozenset[str] = COUNTED


@dataclass(frozen=True, kw_only=True)
class StepSpec:
    """One step as the engine sees it.

    `ordinal` (1, 2, … in the order of the definition) gives the id of its task. `config` may hold `${…}`;
    `reads` are the ids of the steps whose outputs its templates refer to, `secrets` the names of the secrets. Times are
    in seconds.
    """

    id: str
    ordinal: int
    name: str
    kind: str
    config: Mapping[str, Any]
    depends_on: tuple[str, ...] = ()
    on: On = "success"
    when: str | None = None
    reads: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeout_seconds: float | None = None
    queue_timeout_seconds: float | None = None
    total_timeout_seconds: float | None = None
    allow_failure: bool = False
    for_each: Any = None
    max_parallel: int = MOST_AT_ONCE
    cache: CachePolicy | None = None
    rate: Rate | None = None
    breakers: tuple[Breaker, ...] = ()
    queue: str = "default"
    lane: str = "default"
    requires: tuple[str, ...] = ()
    prefers: tuple[str, ...] = ()

    @property
    def own(self) -> bool:
        """Whether the engine itself sees to it: no performer ever claims it."""
        return self.kind in OWN_KINDS

    @cached_property
    def opens_on_outputs(self) -> bool:
        """Whether what is read of other steps is needed as soon as it is opened, not only when it is claimed."""
        return self.when is not None or self.for_each is not None or self.own or self.cache is not None

    @cached_property
    def has_templates(self) -> bool:
        """Whether its configuration holds a `${…}` to be replaced."""
        return "${" in json.dumps(self.config, ensure_ascii=False, default=str)

    @property
    def takes_stdin(self) -> bool:
        """Whether the outputs of its dependencies are piped into it."""
        return self.kind in ("process", "container")


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """At most `limit` executions with the same value of `key`, a template, run at once."""

    key: Any
    limit: int
    on_conflict: Literal["queue", "cancel_running", "reject"]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The steps of one version by id, in the order of the definition. Acyclic: `definition` has seen to it."""

    steps: Mapping[str, StepSpec]
    outputs: Sequence[tuple[str, Any]] = ()
    output_reads: frozenset[str] = frozenset()  # the steps that `outputs` refer to
    timeout_seconds: float | None = None
    concurrency: Concurrency | None = None
    notify: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # status → receivers

    @cached_property
    def dependants(self) -> Mapping[str, tuple[str, ...]]:
        """For each step the steps that wait for it, in the order of the definition."""
        found: dict[str, list[str]] = {step: [] for step in self.steps}
        for step in self.steps.values():
            for dependency in step.depends_on:
                found[dependency].append(step.id)
        return {step: tuple(waiting) for step, waiting in found.items()}

    @cached_property
    def alone(self) -> bool:
        """Whether its executions touch no row but their own: nobody is told or held back, nothing is shared."""
        shared = any(
            step.rate or step.cache or step.breakers or step.kind == "workflow" for step in self.steps.values()
        )
        return not (shared or self.notify or self.concurrency)

    @cached_property
    def has_children(self) -> bool:
        """Whether a step is another workflow."""
        return any(step.kind == "workflow" for step in self.steps.values())

    @cached_property
    def by_ordinal(self) -> Mapping[int, StepSpec]:
        """The steps by ordinal."""
        return {step.ordinal: step for step in self.steps.values()}


@dataclass(frozen=True, slots=True)
class Weights:
    """What the steps of a graph count for in an execution's percentage, by id, and all of them together.

    They are what the steps are expected to cost, and hold from an execution's first moment to its last.
    """

    by_step: Mapping[str, float]
    total: float

    @classmethod
    def of(cls, graph: Graph, by_step: Mapping[str, float]) -> "Weights":
        """Those of this graph; a step that has none counts 1, which is the mean."""
        found = {step: by_step.get(step, 1.0) for step in graph.steps}
        return cls(found, sum(found.values()))
