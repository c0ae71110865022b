"""What changed from one definition to another. Steps are compared by id: their order is no change."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from apps.workflows.definition.kinds import sequence
from apps.workflows.definition.pointers import pointer

Path = tuple[str | int, ...]
Op = Literal["add", "remove", "replace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference. `pointer` leads into the newer definition, of what was removed into the older.

    `step_id` names the step that it is inside of; None for what concerns the whole.
    """

    pointer: str
    op: Op
    before: Any = None
    after: Any = None
    step_id: str | None = None


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    """Every difference between two stored definitions: keys in the order of the alphabet, then the steps.

    Mappings are compared key by key, lists (but that of the steps) as a whole. As for a version's checksum, `1` and
    `1.0` are two values.
    """
    yield from _mappings(_without_steps(before), _without_steps(after), (), None)
    old, new = _steps(before), _steps(after)
    for step_id, (number, step) in old.items():
        if step_id not in new:
            yield Change(pointer=pointer("steps", number), op="remove", before=step, step_id=step_id)
    for step_id, (number, step) in new.items():
        if step_id not in old:
            yield Change(pointer=pointer("steps", number), op="add", after=step, step_id=step_id)
        else:
            yield from _mappings(old[step_id][1], step, ("steps", number), step_id)


def _without_steps(definition: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in definition.items() if key != "steps"}


def _steps(definition: Mapping[str, Any]) -> dict[str, tuple[int, Mapping[str, Any]]]:
    return {str(step["id"]): (number, step) for number, step in enumerate(sequence(definition.get("steps")))}


def _mappings(old: Mapping[str, Any], new: Mapping[str, Any], path: Path, step_id: str | None) -> Iterator[Change]:
    """Recursive: a stored definition is at most 64 levels deep."""
    for key in sorted(old.keys() | new.keys()):
        where = (*path, key)
        if key not in new:
            yield Change(pointer=pointer(*where), op="remove", before=old[key], step_id=step_id)
        elif key not in old:
            yield Change(pointer=pointer(*where), op="add", after=new[key], step_id=step_id)
        elif isinstance(old[key], Mapping) and isinstance(new[key], Mapping):
            yield from _mappings(old[key], new[key], where, step_id)
        elif _canonical(old[key]) != _canonical(new[key]):
            yield Change(pointer=pointer(*where), op="replace", before=old[key], after=new[key], step_id=step_id)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
