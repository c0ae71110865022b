"""Makes the engine's graph from a stored definition that `validate` has seen. Trusts it; checks types, not meaning."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from apps.core.errors import Invalid
from apps.workflows.definition.kinds import config_of, kinds_of, mapping
from apps.workflows.definition.schema import CircuitBreaker, Definition, Step
from apps.workflows.engine.expressions import references
from apps.workflows.engine.graph import (
    COUNTED,
    MOST_AT_ONCE,
    OWN_KINDS,
    REGISTRY_UNREACHED,
    Breaker,
    CachePolicy,
    Concurrency,
    Graph,
    Rate,
    RetryPolicy,
    StepSpec,
)
from apps.workflows.engine.labels import canonical


def compile_graph(definition_data: Mapping[str, Any]) -> Graph:
    """The graph of a definition, as it was stored. Raises `Invalid` only where it was never valid."""
    try:
        definition = Definition.model_validate(definition_data)
    except ValidationError as error:
        raise Invalid("the stored definition cannot be read", code="invalid_definition") from error
    container_config = mapping(definition_data.get("container_config"))
    steps: dict[str, StepSpec] = {}
    for ordinal, (step, written) in enumerate(zip(definition.steps, definition_data["steps"], strict=True), start=1):
        kinds = kinds_of(written, container_config)
        if len(kinds) != 1:
            raise Invalid(f"the stored step `{step.id}` has no single kind", code="invalid_definition")
        config = config_of(kinds[0], written, container_config)
        spec = _spec(step, written, ordinal, kinds[0], config)
        breakers = _breakers(spec, definition.circuit_breaker, step.circuit_breaker)
        steps[step.id] = replace(spec, breakers=breakers) if breakers else spec
    return Graph(
        steps=steps,
        outputs=tuple((output.name, output.value) for output in definition.outputs),
        output_reads=_steps_in([output.value for output in definition.outputs]),
        timeout_seconds=definition.timeout_seconds,
        concurrency=_concurrency(definition),
        notify=_receivers(definition),
    )


def _concurrency(definition: Definition) -> Concurrency | None:
    limit = definition.concurrency
    if limit is None:
        return None
    return Concurrency(key=limit.key, limit=limit.limit, on_conflict=limit.on_conflict)


def _receivers(definition: Definition) -> dict[str, tuple[str, ...]]:
    """Who is told of which end, each once."""
    told: dict[str, dict[str, None]] = {}
    for notify in definition.notify:
        for status in notify.on:
            told.setdefault(status, {})[notify.webhook] = None
    return {status: tuple(names) for status, names in told.items()}


ENGINE_BREAKER = "container-engine"
"""Every container step asks it: while the engine is away they stay in line instead of failing one by one.

The engines of a queue's workers are one dependency; each queue but the default one has a breaker of its own.
"""

REGISTRY_BREAKER = "registry"
"""Every step whose image is to come from a registry asks the one of that registry."""

MOST_OF_A_NAME = 64
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,54}")
_ENGINE_AWAY = frozenset({"unavailable"})
_REGISTRY_AWAY = frozenset({REGISTRY_UNREACHED})


def _breakers(spec: StepSpec, *given: CircuitBreaker | None) -> tuple[Breaker, ...]:
    """The breakers of a step: its workflow's, its own; of a container also its engine's and its registry's."""
    if spec.kind in OWN_KINDS:
        return ()
    found = {one.name: _breaker(one) for one in given if one is not None}
    if spec.kind == "container":
        own = [Breaker(name=_of_queue(spec.queue), on=_ENGINE_AWAY)]
        if registry := _registry(str(spec.config.get("image"))):
            own.append(Breaker(name=f"{REGISTRY_BREAKER}:{registry}", on=_REGISTRY_AWAY))
        # That the engine is away says nothing about anything else.
        found = {name: replace(one, on=one.on - _ENGINE_AWAY) for name, one in found.items()}
        found |= {one.name: one for one in own}
    return tuple(found.values())


def _of_queue(queue: str) -> str:
    name = f"{ENGINE_BREAKER}:{queue}"
    return ENGINE_BREAKER if queue == "default" or len(name) > MOST_OF_A_NAME else name


def _registry(image: str) -> str:
    """The host that an image comes from, as its name tells; "" where that is known only when it runs."""
    first, slash, _ = image.partition("/")
    host = first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"
    return host if _HOST.fullmatch(host) and "${" not in image else ""


def _breaker(given: CircuitBreaker) -> Breaker:
    on = COUNTED if given.on is None else frozenset(str(rule) for rule in given.on)
    return Breaker(**given.model_dump(exclude={"on"}), on=on)


def _spec(step: Step, written: Mapping[str, Any], ordinal: int, kind: str, config: Mapping[str, Any]) -> StepSpec:
    asked = step.requires if step.agent is None else [*step.requires, *step.agent.requires]
    requires, prefers = canonical(asked), canonical(step.prefers)
    cache = step.cache
    return StepSpec(
        id=step.id,
        ordinal=ordinal,
        name=step.name or step.id,
        kind=kind,
        config=config,
        depends_on=tuple(step.depends_on),
        on=step.on,
        when=step.when,
        reads=_steps_in([config, step.when, step.for_each, cache and cache.key]),
        secrets=frozenset(str(found.path[0]) for found in references(config) if found.root == "secrets"),
        retry=_retry(step),
        timeout_seconds=step.timeout_seconds,
        queue_timeout_seconds=step.queue_timeout_seconds,
        total_timeout_seconds=step.total_timeout_seconds,
        allow_failure=step.allow_failure,
        for_each=step.for_each,
        max_parallel=min(MOST_AT_ONCE, step.max_parallel or MOST_AT_ONCE),
        cache=None if cache is None else CachePolicy(key=cache.key, ttl=cache.ttl_seconds, definition=_digest(written)),
        rate=None if step.rate_limit is None else Rate(**step.rate_limit.model_dump()),
        queue=step.queue,
        lane=_lane(step.queue, requires, prefers, for_agents=kind == "agent"),
        requires=requires,
        prefers=prefers,
    )


def _digest(written: Mapping[str, Any]) -> str:
    text = json.dumps(written, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _lane(queue: str, requires: tuple[str, ...], prefers: tuple[str, ...], *, for_agents: bool) -> str:
    """The key of a lane: the queue's name where nothing is asked of workers, else with a digest of what is."""
    if not requires and not prefers and not for_agents:
        return queue
    asked = {"requires": requires, "prefers": prefers, **({"kind": "agent"} if for_agents else {})}
    return f"{queue[:47]}~{_digest(asked)[:16]}"


def _steps_in(value: Any) -> frozenset[str]:
    """The steps that the `${…}` in `value` refer to."""
    return frozenset(str(found.path[0]) for found in references(value) if found.root == "steps")


def _retry(step: Step) -> RetryPolicy:
    if step.retry is None:
        return RetryPolicy(retries=step.retries or 0, delay=step.retry_delay or 0.0)
    retry = step.retry
    return RetryPolicy(
        retries=retry.max_attempts - 1,
        delay=retry.delay,
        backoff=retry.backoff,
        max_delay=retry.max_delay,
        jitter=retry.jitter,
        on=frozenset(str(rule) for rule in retry.on),
        not_on=frozenset(str(rule) for rule in retry.not_on),
        lost=retry.lost,
    )
