"""What a command step is given, and the words it shares with container steps."""

import json
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)


def as_text(value: Any) -> Any:
    """What an expression made, as the text a program is given: true, 5, {"a":1}. Text and null stay as they are."""
    if value is None or isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        return value


def _passable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    text.encode("utf-8")  # a lone surrogate is a ValueError here
    return text


Text = Annotated[
    str,
    BeforeValidator(as_text, json_schema_input_type=str),
    StringConstraints(max_length=131_072),  # Linux: MAX_ARG_STRLEN
    AfterValidator(_passable),
]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)]
Command = Annotated[list[Text], Field(min_length=1, max_length=10_000)]
Environment = Annotated[dict[VariableName, Text], Field(max_length=1_000)]


class Config(BaseModel):
    """A command of the host: `command` (program and arguments, never a shell line) and `environment`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    command: Command = Field(description="Program and arguments; no shell.")
    environment: Environment = Field(default_factory=dict, description="Its variables, beside PATH, HOME and LANG.")
