"""Checks steps that the engine sees to itself: `wait`, `approval` and `workflow`."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from apps.core.errors import Problem
from apps.workflows.definition.friendly import Path
from apps.workflows.definition.input_schemas import schema_problem
from apps.workflows.definition.kinds import mapping
from apps.workflows.definition.pointers import pointer

# Nobody performs these steps, so nothing that is about performers or attempts has an effect on them.
_NO_EFFECT: Mapping[str, tuple[str, ...]] = {
    "wait": ("retries", "retry_delay", "retry"),
    "approval": ("retries", "retry_delay", "retry", "timeout_seconds"),
    "workflow": (),
}
_NO_PERFORMER = (
    "queue", "requires", "prefers", "rate_limit", "cache", "circuit_breaker", "queue_timeout_seconds",
    "total_timeout_seconds",
)  # fmt: skip
_WAYS = ("seconds", "until", "signal")


def own_problems(kind: str, step: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    """What is wrong with a step of the kind `wait`, `approval` or `workflow`."""
    for key in (*_NO_PERFORMER, *_NO_EFFECT[kind]):
        if step.get(key) not in (None, [], {}):
            message = f"`{key}` has no effect on a step of kind `{kind}`: remove it"
            if (kind, key) == ("approval", "timeout_seconds"):
                message = "say how long an approval waits within it: `approval: {timeout_seconds: …}`"
            yield Problem(pointer=pointer(*path, key), code="unused_key", message=message)
    config = mapping(step.get(kind))
    if kind == "wait":
        yield from _wait_problems(config, step, path)
    elif kind == "approval":
        if found := schema_problem({"type": "object", **config["form"]} if _is_form(config) else {}):
            yield Problem(pointer=pointer(*path, kind, "form", *found[0]), code="bad_schema", message=found[1])
    elif "${" in str(config.get("id")):
        message = "the id of a workflow is written out; `${…}` may stand in `inputs`"
        yield Problem(pointer=pointer(*path, kind, "id"), code="expression", message=message)


def _is_form(config: Mapping[str, Any]) -> bool:
    return isinstance(config.get("form"), Mapping)


def _wait_problems(config: Mapping[str, Any], step: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    ways = [way for way in _WAYS if config.get(way) is not None]
    where = pointer(*path, "wait")
    if len(ways) != 1:
        message = "a wait is for exactly one of `seconds`, `until` and `signal`"
        yield Problem(pointer=where, code="several_kinds" if ways else "no_kind", message=message)
    if step.get("timeout_seconds") is not None and ways != ["signal"]:
        message = "`timeout_seconds` has no effect on a wait for a time: it is the wait"
        yield Problem(pointer=pointer(*path, "timeout_seconds"), code="unused_key", message=message)
    until = config.get("until")
    if isinstance(until, str) and "${" not in until:
        try:
            aware = datetime.fromisoformat(until).tzinfo is not None
        except ValueError:
            aware = False
        if not aware:
            message = "must be an ISO 8601 time with its zone, as in 2027-01-31T09:00:00+01:00"
            yield Problem(pointer=pointer(*path, "wait", "until"), code="bad_value", message=message)
