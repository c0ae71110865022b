"""Finds every problem of a definition at once, and executes nothing.

The checks read the data as it was written and step over what cannot be read, so that one mistake hides no other.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from apps.core.errors import Invalid, Problem
from apps.workflows.definition.availability import unavailable
from apps.workflows.definition.dependencies import ancestors, components, cycle_through, is_cyclic
from apps.workflows.definition.friendly import problems_from, type_name
from apps.workflows.definition.inputs import input_problems
from apps.workflows.definition.kinds import mapping, sequence
from apps.workflows.definition.loader import data_problems
from apps.workflows.definition.pointers import pointer
from apps.workflows.definition.references import Place, Scope, reference_problems
from apps.workflows.definition.schema import INPUTS, STEPS, Definition
from apps.workflows.definition.steps import EXPRESSION_KEYS, PERFORMER_KEYS, step_problems
from apps.workflows.definition.suggestions import Suggester

PROBLEMS = 1000  # an answer names this many and counts the rest


def validated(
    data: Any,
    *,
    executor_configs: Mapping[str, type[BaseModel]],
    known_callables: Collection[str] | None = None,
    known_secrets: Collection[str] | None = None,
) -> Definition:
    """The definition in `data`. Raises `Invalid` (code `invalid_definition`) with every problem."""
    problems = problems_of(
        data, executor_configs=executor_configs, known_callables=known_callables, known_secrets=known_secrets
    )
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems):,} problems"
        raise Invalid(f"the definition has {count}", code="invalid_definition", problems=problems)
    return Definition.model_validate(data)


def problems_of(
    data: Any,
    *,
    executor_configs: Mapping[str, type[BaseModel]],
    known_callables: Collection[str] | None = None,
    known_secrets: Collection[str] | None = None,
) -> list[Problem]:
    """Every problem of the definition in `data`, in the order of its steps; none where it can be run.

    `executor_configs` are the configuration schemas of the executors by kind; a kind without one cannot be run.
    `known_callables` are the names a `python` step may call, `known_secrets` those that may be used; without them the
    names are not checked.
    """
    if broken := list(data_problems(data)):
        return _bounded(broken)
    if not isinstance(data, Mapping):
        message = f"a definition must be a mapping (`key: value`), not {type_name(data)}"
        return [Problem(pointer="", code="wrong_type", message=message)]
    if len(sequence(data.get("steps"))) > STEPS:
        return [Problem(pointer="/steps", code="too_long", message=f"a workflow may have {STEPS:,} steps")]
    check = _Check(data, executor_configs, known_callables, known_secrets)
    return _bounded(_in_order(check.problems()))


class _Check:
    """One validation: the parts of the data that can be read, and what is asked about them."""

    def __init__(
        self,
        data: Mapping[str, Any],
        executor_configs: Mapping[str, type[BaseModel]],
        known_callables: Collection[str] | None,
        known_secrets: Collection[str] | None,
    ) -> None:
        self.data = data
        self.known_secrets = known_secrets
        self.executor_configs = executor_configs
        self.known_callables = known_callables
        self.container_config = mapping(data.get("container_config"))
        self.steps: list[Mapping[str, Any]] = [mapping(step) for step in sequence(data.get("steps"))]
        self.suggest = Suggester()
        self.index: dict[str, int] = {}
        self.dependencies: list[list[int]] = []
        self.found: list[list[int]] = []

    def problems(self) -> Iterator[Problem]:
        # What the schema already says about a value is not said again by the executor.
        seen = list(self.schema())
        yield from seen
        yield from self.ids()
        yield from self.depends_on()
        yield from self.cycles()
        inputs = self.data.get("inputs")
        if isinstance(inputs, Mapping) and len(inputs) <= INPUTS:
            yield from input_problems(inputs)
        yield from unavailable("definition", self.data, ())
        yield from self.outputs()
        yield from self.each_step({problem.pointer for problem in seen})
        yield from self.references()

    def schema(self) -> Iterator[Problem]:
        try:
            Definition.model_validate(self.data)
        except ValidationError as error:
            for _, problem in problems_from(error, Definition, self.data, self.suggest):
                yield problem

    def ids(self) -> Iterator[Problem]:
        for number, step in enumerate(self.steps):
            name = step.get("id")
            if not isinstance(name, str):
                continue
            first = self.index.setdefault(name, number)
            if first != number:
                message = f"the id `{name}` is taken by {pointer('steps', first)}: give this one another"
                yield Problem(pointer=pointer("steps", number, "id"), code="duplicate_id", message=message)

    def depends_on(self) -> Iterator[Problem]:
        for number, step in enumerate(self.steps):
            targets: dict[int, None] = {}
            for position, name in enumerate(sequence(step.get("depends_on"))):
                if not isinstance(name, str):
                    continue
                where = pointer("steps", number, "depends_on", position)
                target = self.index.get(name)
                if target is None:
                    message = f"there is no step `{name[:100]}`{self.suggest(name, self.index)}"
                    yield Problem(pointer=where, code="unknown_step", message=message)
                elif target in targets:
                    yield Problem(pointer=where, code="duplicate", message=f"`{name}` is named twice")
                else:
                    targets[target] = None
            self.dependencies.append(list(targets))
        self.found = components(self.dependencies)

    def cycles(self) -> Iterator[Problem]:
        for component in self.found:
            if is_cyclic(component, self.dependencies):
                cycle = cycle_through(component, self.dependencies)
                names = [str(self.steps[number]["id"]) for number in cycle]
                if len(names) > 20:
                    names = [*names[:10], f"… {len(names) - 20:,} more …", *names[-10:]]
                message = f"steps wait for each other in a circle: {' → '.join(names)}"
                yield Problem(pointer=pointer("steps", cycle[0], "depends_on"), code="cycle", message=message)

    def outputs(self) -> Iterator[Problem]:
        seen: set[str] = set()
        for number, output in enumerate(sequence(self.data.get("outputs"))):
            name = mapping(output).get("name")
            if isinstance(name, str) and name in seen:
                message = f"there is already an output `{name}`"
                yield Problem(pointer=pointer("outputs", number, "name"), code="duplicate_output", message=message)
            elif isinstance(name, str):
                seen.add(name)

    def each_step(self, seen: set[str]) -> Iterator[Problem]:
        for number, step in enumerate(self.steps):
            if not step:
                continue  # the schema has said that it is no mapping, or that its id is missing
            found = step_problems(
                step,
                number,
                container_config=self.container_config,
                executor_configs=self.executor_configs,
                known_callables=self.known_callables,
                seen=seen,
                suggest=self.suggest,
            )
            yield from found

    def references(self) -> Iterator[Problem]:
        inputs = self.data.get("inputs", {})
        scope = Scope(
            inputs=inputs if isinstance(inputs, Mapping) else None,
            secrets=self.known_secrets,
            steps=self.index,
            suggest=self.suggest,
        )
        masks = ancestors(self.dependencies, self.found)
        for number, step in enumerate(self.steps):
            for key in EXPRESSION_KEYS & step.keys():
                # Whether there are items at all is decided for the step as a whole.
                has_item = step.get("for_each") is not None and key not in ("when", "for_each")
                place = Place(
                    kind="step",
                    index=number,
                    ancestors=masks[number],
                    has_item=has_item,
                    to_performer=key in PERFORMER_KEYS,
                )
                yield from reference_problems(step[key], ("steps", number, key), place=place, scope=scope)
        for key in ("container_config", "concurrency"):
            shared = Place(kind="shared", to_performer=key == "container_config")
            yield from reference_problems(self.data.get(key), (key,), place=shared, scope=scope)
        for number, output in enumerate(sequence(self.data.get("outputs"))):
            path = ("outputs", number, "value")
            value = mapping(output).get("value")
            yield from reference_problems(value, path, place=Place(kind="outputs"), scope=scope)


def _in_order(problems: Iterable[Problem]) -> list[Problem]:
    def key(problem: Problem) -> list[tuple[int, str]]:
        return [
            (int(part), "") if part.isdigit() and len(part) < 9 else (-1, part) for part in problem.pointer.split("/")
        ]

    return sorted(dict.fromkeys(problems), key=key)


def _bounded(problems: list[Problem]) -> list[Problem]:
    if len(problems) <= PROBLEMS:
        return problems
    message = f"there are {len(problems) - PROBLEMS:,} more problems"
    return [*problems[:PROBLEMS], Problem(pointer="", code="more", message=message)]
