"""Checks what the `${…}` of a definition refer to: inputs, secrets and steps that exist, and that have run by then."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from apps.core.errors import Problem
from apps.workflows.definition.pointers import pointer
from apps.workflows.definition.suggestions import Suggester
from apps.workflows.engine.expressions import ExpressionError, Reference, parse

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What may be referred to. `inputs` is None where the declaration itself cannot be read.

    `secrets` are the names that whoever saves the definition may use; None: they are not checked.
    """

    inputs: Collection[str] | None
    secrets: Collection[str] | None
    steps: Mapping[str, int]
    suggest: Suggester


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an expression stands. For a step: its index, and all it waits for as bits.

    With `to_performer` its value goes to what performs a step and nowhere else.
    """

    kind: Literal["step", "outputs", "shared"]
    index: int = -1
    ancestors: int = 0
    has_item: bool = False
    to_performer: bool = False


def reference_problems(value: Any, path: Path, *, place: Place, scope: Scope) -> Iterator[Problem]:
    """What is wrong with the `${…}` in `value`, which stands at `path`."""
    for where, text in texts(value, path):
        try:
            found = dict.fromkeys(lookup.reference for lookup in parse(text).lookups())
        except ExpressionError as error:
            message = f"{error.message} (at character {error.position + 1})"
            yield Problem(pointer=pointer(*where), code="expression", message=message)
            continue
        for reference in found:
            if wrong := _objection(reference, place, scope):
                yield Problem(pointer=pointer(*where), code=wrong[0], message=wrong[1])


def texts(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Each text with a `${` inside `value`, with its path."""
    pending = [(value, path)]
    while pending:
        current, where = pending.pop()
        if isinstance(current, str):
            if "${" in current:
                yield where, current
        elif isinstance(current, Mapping):
            pending.extend((inner, (*where, key)) for key, inner in current.items())
        elif isinstance(current, list | tuple):
            pending.extend((inner, (*where, index)) for index, inner in enumerate(current))


def _objection(reference: Reference, place: Place, scope: Scope) -> tuple[str, str] | None:
    match reference.root:
        case "inputs":
            return _input_objection(reference, scope)
        case "steps":
            return _step_objection(reference, place, scope)
        case "item" if not place.has_item:
            return "no_item", "`item` has a value in a `for_each` step only"
        case "secrets":
            return _secret_objection(str(reference.path[0]), place, scope)
    return None


def _secret_objection(name: str, place: Place, scope: Scope) -> tuple[str, str] | None:
    if not place.to_performer:
        message = "a secret is given to what performs a step (`python`, `http`, `command`, `environment`, …) alone"
        return "secret_not_here", message
    if scope.secrets is None or name in scope.secrets:
        return None
    hint = scope.suggest(name, scope.secrets)
    fix = hint or ": make it (`POST /secrets`), or ask its owner to let you use it"
    return "unknown_secret", f"there is no secret `{name[:100]}` that you may use{fix}"


def _input_objection(reference: Reference, scope: Scope) -> tuple[str, str] | None:
    if scope.inputs is None or not reference.path or reference.path[0] in scope.inputs:
        return None
    name = str(reference.path[0])
    return "unknown_input", f"there is no input `{name[:100]}`{scope.suggest(name, scope.inputs)}"


def _step_objection(reference: Reference, place: Place, scope: Scope) -> tuple[str, str] | None:
    name = str(reference.path[0])
    if name not in scope.steps:
        return "unknown_step", f"there is no step `{name[:100]}`{scope.suggest(name, scope.steps)}"
    if place.kind == "shared":
        return "not_a_dependency", f"`{reference}` cannot be read here: this holds for steps that do not wait for it"
    target = scope.steps[name]
    if place.kind == "step" and target == place.index:
        return "not_a_dependency", f"a step cannot read its own outputs: `{reference}`"
    if place.kind == "step" and not place.ancestors >> target & 1:
        return "not_a_dependency", f"`{reference}` may not be there yet: add `{name}` to `depends_on`"
    return None
