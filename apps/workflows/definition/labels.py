"""Checks what a step requires of performers, and what it would rather have: each entry by the grammar of labels."""

from collections.abc import Iterator, Mapping
from typing import Any

from apps.core.errors import Problem
from apps.workflows.definition.kinds import mapping, sequence
from apps.workflows.definition.pointers import pointer
from apps.workflows.engine.labels import LabelError, parse

# Where a step names requirements.
_PLACES = (("requires",), ("prefers",), ("agent", "requires"))


def label_problems(step: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[Problem]:
    """What is wrong with the requirements of `step`, which stands at `path`.

    An entry that is no text is the schema's to tell.
    """
    for place in _PLACES:
        holder = step if len(place) == 1 else mapping(step.get(place[0]))
        seen: dict[str, int] = {}
        for number, text in enumerate(sequence(holder.get(place[-1]))):
            if not isinstance(text, str):
                continue
            where = pointer(*path, *place, number)
            try:
                normal = parse(text).text
            except LabelError as error:
                message = f"{error.message} (at character {error.position + 1})"
                yield Problem(pointer=where, code="bad_label", message=message)
                continue
            first = seen.setdefault(normal, number)
            if first != number:
                message = f"`{normal}` is required already by {pointer(*path, *place, first)}: keep one"
                yield Problem(pointer=where, code="duplicate", message=message)
