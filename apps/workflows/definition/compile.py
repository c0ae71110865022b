"""Makes the engine's graph from a stored definition that `validate` has seen. Trusts it; checks types, not meaning."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from apps.core.errors import Invalid
from apps.workflows.definition.kinds import config_of, kinds_of, mapping
from apps.workflows.definition.schema import Definition, Step
from apps.workflows.engine.expressions import references
from apps.workflows.engine.graph import Graph, RetryPolicy, StepSpec


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
        steps[step.id] = _spec(step, ordinal, kinds[0], config)
    return Graph(
        steps=steps,
        outputs=tuple((output.name, output.value) for output in definition.outputs),
        output_reads=_steps_in([output.value for output in definition.outputs]),
        timeout_seconds=definition.timeout_seconds,
    )


def _spec(step: Step, ordinal: int, kind: str, config: Mapping[str, Any]) -> StepSpec:
    return StepSpec(
        id=step.id,
        ordinal=ordinal,
        name=step.name or step.id,
        kind=kind,
        config=config,
        depends_on=tuple(step.depends_on),
        on=step.on,
        when=step.when,
        reads=_steps_in([config, step.when]),
        retry=_retry(step),
        timeout_seconds=step.timeout_seconds,
        allow_failure=step.allow_failure,
        queue=step.queue,
    )


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
        on=frozenset(retry.on),
        not_on=frozenset(retry.not_on),
        lost=retry.lost,
    )
