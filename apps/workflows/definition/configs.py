"""Checks what executors are given against their own schemas, as far as no `${…}` hides it before an execution."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from apps.core.errors import Problem
from apps.workflows.definition.friendly import Path, label, problems_from
from apps.workflows.definition.kinds import config_of, written_at
from apps.workflows.definition.pointers import pointer
from apps.workflows.definition.references import texts
from apps.workflows.definition.suggestions import Suggester


def config_problems(
    kind: str,
    model: type[BaseModel],
    step: Mapping[str, Any],
    path: Path,
    *,
    container_config: Mapping[str, Any],
    suggest: Suggester,
) -> Iterator[Problem]:
    """What `model` finds wrong with the configuration of `step`, at the places where its author wrote it.

    A value that holds `${…}` is checked once it is rendered; unknown and missing keys are known already.
    """
    config = config_of(kind, step, container_config)
    try:
        model.model_validate(config)
    except ValidationError as error:
        for loc, problem in problems_from(error, model, config, suggest):
            if problem.code not in ("unknown_key", "missing") and _is_open(config, loc):
                continue
            where = written_at(kind, loc, path=path, step=step, container_config=container_config)
            message = problem.message if loc else problem.message.replace(label(loc), f"this `{kind}` step", 1)
            yield Problem(pointer=pointer(*where), code=problem.code, message=message)


def _is_open(config: Any, loc: Path) -> bool:
    """Whether the value at `loc` depends on an expression."""
    for part in loc:
        if isinstance(config, str):
            break
        config = config[part]
    return next(texts(config), None) is not None
