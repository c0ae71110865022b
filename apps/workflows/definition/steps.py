"""Checks one step by itself: its kind, what that kind makes use of, its retries and its condition."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from apps.core.errors import Problem
from apps.workflows.definition.availability import reason, unavailable
from apps.workflows.definition.configs import config_problems
from apps.workflows.definition.friendly import Path, fields_at
from apps.workflows.definition.kinds import ADDED, COMMAND_KEYS, KIND_KEYS, USED_KEYS, kinds_of, mapping
from apps.workflows.definition.labels import label_problems
from apps.workflows.definition.own_kinds import own_problems
from apps.workflows.definition.pointers import pointer
from apps.workflows.definition.schema import Step
from apps.workflows.definition.suggestions import Suggester
from apps.workflows.engine.graph import OWN_KINDS

# The keys of a step whose `${…}` are replaced before it runs.
EXPRESSION_KEYS = frozenset(COMMAND_KEYS) | {
    "when", "python", "http", "for_each", "cache", "llm", "agent", "workflow", "approval", "wait", ADDED,
}  # fmt: skip
# Those whose values go to what performs the step, and into no row.
PERFORMER_KEYS = frozenset(COMMAND_KEYS) | {"python", "http", "llm"}
_DELAYS = ("delay", "backoff", "max_delay", "jitter", "on", "not_on")


def step_problems(
    step: Mapping[str, Any],
    number: int,
    *,
    container_config: Mapping[str, Any],
    executor_configs: Mapping[str, type[BaseModel]],
    known_callables: Collection[str] | None,
    seen: Collection[str],
    suggest: Suggester,
) -> Iterator[Problem]:
    """What is wrong with step `number` (from 0). `seen` are the pointers of problems that are known already."""
    path: Path = ("steps", number)
    yield from unavailable("step", step, path)
    yield from _retry_problems(step, path)
    yield from _when_problems(step, path)
    kinds = kinds_of(step, container_config)
    if len(kinds) != 1:
        if kinds or not _misspells_its_kind(step, suggest):
            yield _kinds_problem(kinds, path)
        return
    (kind,) = kinds
    yield from _unused_keys(kind, step, path)
    yield from _item_problems(step, path)
    yield from label_problems(step, path)
    if kind == "python":
        yield from _callable_problems(step["python"], path, known_callables, suggest)
    if kind in OWN_KINDS:
        yield from own_problems(kind, step, path)
        return
    if reason("step", kind) or kind == "agent":  # what an agent is given is between it and the author
        return
    if kind not in executor_configs:
        message = f"steps of kind `{kind[:50]}` cannot be run here: there is no executor for them"
        where = (*path, ADDED, "kind") if step.get(ADDED) is not None else path
        if where is not path:
            message += suggest(kind, executor_configs) or "; is its package installed?"
        yield Problem(pointer=pointer(*where), code="not_available", message=message)
        return
    for problem in config_problems(
        kind, executor_configs[kind], step, path, container_config=container_config, suggest=suggest
    ):
        if not _covered(problem.pointer, seen):
            yield problem


def _covered(where: str, seen: Collection[str]) -> bool:
    """Whether there is a problem at this place already, or around it."""
    parts = where.split("/")
    return any("/".join(parts[:length]) in seen for length in range(3, len(parts) + 1))


def _misspells_its_kind(step: Mapping[str, Any], suggest: Suggester) -> bool:
    """Whether a key that nobody knows is told with the key of a kind as the one that was meant."""
    known = fields_at(Step, ())
    return any(suggest.meant(key, known) in KIND_KEYS for key in step if key not in known)


def _kinds_problem(kinds: list[str], path: Path) -> Problem:
    if kinds:
        message = f"this step is of {len(kinds)} kinds ({', '.join(kinds)}): keep one of them"
    else:
        message = (
            "this step does nothing: give it `python`, `http`, `command` with or without `image`, "
            "`agent`, `executor`, `wait`, `approval` or `workflow`"
        )
    return Problem(pointer=pointer(*path), code="several_kinds" if kinds else "no_kind", message=message)


def _unused_keys(kind: str, step: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    for key in COMMAND_KEYS:
        if step.get(key) and key not in USED_KEYS.get(kind, ()):
            message = f"`{key}` has no effect on a step of kind `{kind}`: remove it"
            yield Problem(pointer=pointer(*path, key), code="unused_key", message=message)


def _item_problems(step: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    if step.get("for_each") is None and step.get("max_parallel") is not None:
        message = "`max_parallel` has no effect without `for_each`"
        yield Problem(pointer=pointer(*path, "max_parallel"), code="unused_key", message=message)
    items = step.get("for_each")
    if isinstance(items, str) and not (items.startswith("${") and items.endswith("}")):
        message = "`for_each` must be a list, or one whole `${…}` that gives one"
        yield Problem(pointer=pointer(*path, "for_each"), code="expression", message=message)
    elif items is not None and not isinstance(items, str | list | tuple):
        message = "`for_each` must be a list, or one whole `${…}` that gives one"
        yield Problem(pointer=pointer(*path, "for_each"), code="wrong_type", message=message)


def _retry_problems(step: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    retry = step.get("retry")
    if retry is None:
        if step.get("retry_delay") is not None and not step.get("retries"):
            message = "`retry_delay` has no effect without `retries`"
            yield Problem(pointer=pointer(*path, "retry_delay"), code="unused_key", message=message)
        return
    if short := [key for key in ("retries", "retry_delay") if step.get(key) is not None]:
        message = f"`retry` and {' and '.join(f'`{key}`' for key in short)} say the same: keep `retry` alone"
        yield Problem(pointer=pointer(*path, "retry"), code="conflict", message=message)
    retry = mapping(retry)
    if retry.get("max_attempts", 1) == 1:
        for key in _DELAYS:
            if key in retry:
                message = f"`{key}` has no effect without `max_attempts` of 2 or more"
                yield Problem(pointer=pointer(*path, "retry", key), code="unused_key", message=message)


def _when_problems(step: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    when = step.get("when")
    if isinstance(when, str) and "${" not in when and when.strip() not in ("true", "false"):
        message = "`when` must be a `${…}`, as in `${inputs.date != 'skip'}`"
        yield Problem(pointer=pointer(*path, "when"), code="expression", message=message)
    if step.get("on") == "failure" and not step.get("depends_on"):
        message = "with `on: failure` and no `depends_on` this step can never run"
        yield Problem(pointer=pointer(*path, "on"), code="never_runs", message=message)


def _callable_problems(python: Any, path: Path, known: Collection[str] | None, suggest: Suggester) -> Iterator[Problem]:
    where: Path = (*path, "python")
    name = python
    if isinstance(python, Mapping):
        where, name = (*where, "call"), python.get("call")
    if not isinstance(name, str):
        return
    if "${" in name:
        message = "the name of a callable is written out; `${…}` may stand in `with`"
        yield Problem(pointer=pointer(*where), code="expression", message=message)
    elif known is not None and name not in known:
        message = f"there is no callable `{name[:100]}`{suggest(name, known)}"
        yield Problem(pointer=pointer(*where), code="unknown_callable", message=message)
