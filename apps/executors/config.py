"""Checking a step's configuration once its expressions are values."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from apps.executors.outputs import clean_text
from apps.executors.types import StepError, StepResult

Schema = TypeVar("Schema", bound=BaseModel)


def parse(schema: type[Schema], kind: str, config: Mapping[str, Any]) -> Schema | StepResult:
    """The configuration as `schema`, or the failure that names the first wrong field (never its value)."""
    try:
        return schema.model_validate(dict(config))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join([kind, *(str(part) for part in first["loc"])])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        return failed("invalid", f"{field}: {first['msg']}{more}", retryable=False)


def failed(
    kind: str, message: str, *, retryable: bool = True, exit_code: int | None = None, exception: str = ""
) -> StepResult:
    """A failed result whose message can be stored anywhere."""
    text = clean_text(message[:2_000])
    return StepResult(
        error=StepError(type=kind, message=text, retryable=retryable, exit_code=exit_code, exception=exception)
    )
