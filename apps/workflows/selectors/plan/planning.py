"""Puts a plan together: the steps of the newest version, their order, their cost, and what is missing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from apps.core.clock import database_now
from apps.core.errors import Conflict, Invalid, NotFound
from apps.workflows.definition.inputs import resolve_inputs
from apps.workflows.definition.kinds import mapping, sequence
from apps.workflows.engine.graph import StepSpec
from apps.workflows.engine.labels import LabelError, canonical
from apps.workflows.models import Receiver, Workflow, WorkflowVersion
from apps.workflows.selectors.graphs import graph_of
from apps.workflows.selectors.plan.children import Children
from apps.workflows.selectors.plan.history import history_of
from apps.workflows.selectors.plan.known import Known
from apps.workflows.selectors.plan.missing import Finding, Installation, Missing, Performers
from apps.workflows.selectors.plan.order import critical_path, in_order, may_run, run_if_all_is_well, waves
from apps.workflows.selectors.secrets import UsableNames, missing_secrets

MISSING = 1000  # an answer names this many and counts the rest


def plan_of(workflow: Workflow, *, user: Any, inputs: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The dry run of the newest version with `inputs`, as the API answers it; times are in seconds.

    Inputs that are required and not given are told as missing, and what rests on them is "unknown". `user` decides
    which sub-workflows are seen. Raises `Invalid` for inputs that do not fit, `Conflict` for what is never executed.
    """
    if workflow.kind == Workflow.Kind.TRACKER:
        raise Conflict("a tracker is not executed: its progress is reported from outside", code="tracker")
    version = WorkflowVersion.objects.filter(workflow=workflow, number=workflow.version_number).first()
    if version is None:
        raise NotFound("This workflow has no version to plan.")
    definition: Mapping[str, Any] = version.definition
    graph = graph_of(version.pk)
    known_inputs, absent = _resolved(mapping(definition.get("inputs")), inputs or {})
    known = Known(known_inputs, all_given=not absent)
    written = {str(step["id"]): step for step in sequence(definition.get("steps"))}
    history = history_of(workflow, steps=len(graph.steps))
    checks = _Checks(workflow, known, user=user, saver=version.created_by)

    steps = [checks.step(spec, written[spec.id], history.seconds.get(spec.id)) for spec in graph.steps.values()]
    expected = {step["id"]: step["expected_seconds"] for step in steps}
    holds = {step["id"]: step["when"] for step in steps}
    order = in_order(graph)
    possible = may_run(order, holds)
    missing = [
        *(Missing(step_id=None, what="input", message=message) for message in absent),
        *checks.of_the_whole(definition),
        *checks.of_steps([step for step in steps if step["id"] in possible]),
    ]
    return {
        "workflow_id": workflow.slug,
        "version": version.number,
        "inputs": known_inputs,
        "waves": waves(graph, order, possible),
        "steps": steps,
        "critical_path": asdict(critical_path(order, run_if_all_is_well(order, holds), expected)),
        "missing": [asdict(each) for each in missing[:MISSING]],
        "missing_total": len(missing),
        "executions_basis": history.executions,
    }


def _resolved(declared: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The inputs that have a value, and a message for each that must be given and was not."""
    try:
        return resolve_inputs(declared, given), []
    except Invalid as error:
        wrong = [problem for problem in error.problems if problem.code != "missing_input"]
        if wrong:
            raise Invalid(error.detail, code=error.code, problems=wrong) from None
        there = {name: schema for name, schema in declared.items() if name in given or "default" in schema}
        return resolve_inputs(there, given), [problem.message for problem in error.problems]


class _Checks:
    """Describes steps, and gathers by the way what each of them lacks."""

    def __init__(self, workflow: Workflow, known: Known, *, user: Any, saver: Any) -> None:
        self._workflow = workflow
        self._known = known
        self._user = user
        self._performers = Performers(database_now())
        self._installation = Installation()
        self._secrets = UsableNames(saver)
        self._found: dict[str, list[Finding]] = {}

    def step(self, spec: StepSpec, written: Mapping[str, Any], expected: float | None) -> dict[str, Any]:
        """One step of the answer."""
        known = self._known
        config = known.filled(spec.config or mapping(written.get(spec.kind)))
        requires = _requirements(written)
        described = {
            "id": spec.id,
            "kind": spec.kind,
            "depends_on": list(spec.depends_on),
            "on": spec.on,
            "when": known.truth(spec.when),
            "items": known.count(written.get("for_each")),
            "queue": spec.queue,
            "requires": list(requires),
            "timeout_seconds": spec.timeout_seconds,
            "retries": spec.retry.retries,
            "expected_seconds": expected,
            "config": config,
        }
        known.filled(written.get("cache"))
        self._found[spec.id] = [
            *self._installation.executor(spec.kind),
            *self._installation.callable(spec.kind, config),
            *self._performers.findings(spec.kind, spec.queue, requires),
            *missing_secrets(spec.secrets, self._secrets),
            *self._met(),
        ]
        return described

    def of_the_whole(self, definition: Mapping[str, Any]) -> Iterator[Missing]:
        """What the workflow lacks beside its steps."""
        for key in ("outputs", "concurrency"):
            self._known.filled(definition.get(key))
        for what, message in self._met():
            yield Missing(step_id=None, what=what, message=message)
        if self._known.is_partial:
            message = "the inputs are too large to fill in everywhere: what is left stays as written; give smaller ones"
            yield Missing(step_id=None, what="input", message=message)
        named = [mapping(each).get("webhook") for each in sequence(definition.get("notify"))]
        names = list(dict.fromkeys(str(name) for name in named if name))
        there = set(Receiver.objects.filter(name__in=names).values_list("name", flat=True)) if names else set()
        for name in names:
            if name not in there:
                message = f"there is no receiver `{name}` to notify: make it, or take it out of `notify`"
                yield Missing(step_id=None, what="receiver", message=message)

    def of_steps(self, steps: Sequence[Mapping[str, Any]]) -> Iterator[Missing]:
        """What the described steps lack, in their order."""
        named = {step["id"]: step["config"].get("id") for step in steps if step["kind"] == "workflow"}
        outright = {step_id: each for step_id, each in named.items() if isinstance(each, str) and "${" not in each}
        children = Children(self._workflow, dict.fromkeys(outright.values()), user=self._user) if outright else None
        for step_id in (step["id"] for step in steps):
            for what, message in self._found[step_id]:
                yield Missing(step_id=step_id, what=what, message=message)
            if children and step_id in outright and (objection := children.objection(outright[step_id])):
                yield Missing(step_id=step_id, what="workflow", message=objection)

    def _met(self) -> list[Finding]:
        """What was met in the expressions since this was asked last."""
        known = self._known
        found = [
            *self._installation.variables(list(known.variables)),
            *(("input", message) for message in dict.fromkeys(known.errors)),
        ]
        known.variables.clear()
        known.errors.clear()
        return found


def _requirements(written: Mapping[str, Any]) -> tuple[str, ...]:
    """What the step requires of performers, in its normal form where it can be read."""
    own = (*sequence(written.get("requires")), *sequence(mapping(written.get("agent")).get("requires")))
    texts = [each for each in own if isinstance(each, str)]
    try:
        return canonical(texts)
    except LabelError:
        return tuple(texts)
