"""The harness: a definition, what takes the place of its steps' work, and what happens to it from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from apps.core.errors import Invalid, Problem
from apps.executors import Executors
from apps.executors.config import parse
from apps.executors.types import StepResult
from apps.workflows.definition import compile_graph, load, problems_of, resolve_inputs, schema
from apps.workflows.definition.kinds import mapping, sequence
from apps.workflows.definition.suggestions import Suggester
from apps.workflows.engine.again import kept_for_fork, kept_for_retry
from apps.workflows.engine.decide.opening import APPROVAL
from apps.workflows.engine.graph import StepSpec
from apps.workflows.engine.ids import step_of
from apps.workflows.engine.states import Status, allowed_actions
from apps.workflows.engine.types import (
    Decided,
    Happening,
    PauseRequested,
    ResumeRequested,
    Signalled,
    StopRequested,
)
from apps.workflows.testing.functions import BUILTINS, builtin
from apps.workflows.testing.memory import Memory, MemoryExecution, Origin
from apps.workflows.testing.mocks import Call, HarnessError, Mock, Outcome, Story, fails, perform
from apps.workflows.testing.performing import Action, Limits, Performer
from apps.workflows.testing.results import Result

START = datetime(2026, 1, 1, tzinfo=UTC)
SLOTS = 16  # as many as a worker has
_SCHEMAS: Mapping[str, type[BaseModel]] = {
    **Executors.configs(),
    "wait": schema.Wait,
    "approval": schema.Approval,
    "workflow": schema.SubWorkflow,
}
_NEVER_MOCKED = {
    "wait": "is a wait: the virtual clock moves by itself, and a signal is sent by .signal(…)",
    "approval": "is an approval: answer it by .approve(…) or .reject(…)",
}

Definition = str | Path | Mapping[str, Any]


class Harness:
    """Runs one workflow in process: virtual time begins at `start`, `slots` steps are performed at a time.

    `definition` is YAML or JSON text, a path (looked for in `folders`), or data. Raises `Invalid` with every problem.
    Methods that prepare an execution give the harness back.
    """

    def __init__(
        self,
        definition: Definition,
        *,
        start: datetime = START,
        slots: int = SLOTS,
        environment: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        folders: Sequence[Path] = (Path(),),
    ) -> None:
        self._folders = tuple(folders)
        self._data = _checked(_read(definition, self._folders))
        self.name = str(self._data["name"])
        self.graph = compile_graph(self._data)
        self.children: dict[str, Harness] = {}
        self.script: list[Action] = []
        self._stories: dict[str, Story] = {}
        self._memory = Memory(start=start, environment=environment)
        self._secrets = dict(secrets or {})
        self._slots = slots
        self._limits = limits or Limits()

    # -- preparing ---------------------------------------------------------------------------------------------------

    def mock(self, step: str, *mocks: Mock) -> Harness:
        """What happens when `step` (`fetch`; of many items also one alone, `load[3]`) is attempted.

        Each attempt of a task takes the next of `mocks`, the last one goes on for ever. What was said before is
        forgotten. Raises `HarnessError` for a step that there is not.
        """
        spec = self._step(step)
        if spec.kind in _NEVER_MOCKED:
            raise HarnessError(f"`{step}` {_NEVER_MOCKED[spec.kind]}")
        if not mocks:
            raise HarnessError(f'.mock("{step}"): say what it does: returns(…), fails(…), lost(), takes(…), a function')
        self._stories[step] = Story(mocks)
        return self

    def child(self, workflow: str, definition: Harness | Definition) -> Harness:
        """What a step finds that runs the workflow `workflow`. A harness brings its mocks and its script."""
        if not isinstance(definition, Harness):
            definition = Harness(definition, folders=self._folders)
        self.children[workflow] = definition
        return self

    def signal(self, name: str, payload: Mapping[str, Any] | None = None, *, at: float = 0) -> Harness:
        """A signal comes, `at` seconds after the execution was created."""
        signalled = Signalled(name=name, payload=dict(payload or {}), by="somebody")
        return self._happens(f'.signal("{name}", at={at:g})', at, signalled)

    def approve(
        self, step: str, *, by: str = "somebody", form: Mapping[str, Any] | None = None, at: float | None = None
    ) -> Harness:  # fmt: skip
        """Somebody says yes: as soon as he is asked, or `at` seconds after the execution was created."""
        return self._answers("approve", step, at, approved=True, by=by, data=dict(form or {}))

    def reject(self, step: str, *, by: str = "somebody", reason: str = "", at: float | None = None) -> Harness:
        """Somebody says no: as soon as he is asked, or `at` seconds after the execution was created."""
        return self._answers("reject", step, at, approved=False, by=by, reason=reason)

    def pause(self, *, at: float = 0) -> Harness:
        """Somebody pauses the execution, `at` seconds after it was created."""
        return self._happens(f".pause(at={at:g})", at, PauseRequested(by="somebody"))

    def resume(self, *, at: float) -> Harness:
        """Somebody resumes it."""
        return self._happens(f".resume(at={at:g})", at, ResumeRequested(by="somebody"))

    def cancel(self, *, at: float = 0) -> Harness:
        """Somebody cancels it."""
        return self._happens(f".cancel(at={at:g})", at, StopRequested(status=Status.CANCELLED, by="somebody"))

    def later(self, seconds: float) -> Harness:
        """Let virtual time pass between two executions."""
        self._memory.now += timedelta(seconds=seconds)
        return self

    # -- performing --------------------------------------------------------------------------------------------------

    def execute(self, inputs: Mapping[str, Any] | None = None) -> Result:
        """Execute it once, to the end. What it may use again (`cache`) is kept for the next.

        Raises `Invalid` for inputs that do not fit, `HarnessError` for a step without a mock and an execution that
        never ends.
        """
        return self._run(self._memory, inputs or {}, Origin(told={"trigger": "caller"}))

    def again(self, memory: Memory, of: MemoryExecution, start: str | None) -> Result:
        """A retry of the execution `of`, or a fork from the task `start`. Called by `Result`."""
        action = "retry" if start is None else "fork"
        if action not in allowed_actions(of.state.status):
            raise HarnessError(f"{of.id} is {of.state.status.value}: there is nothing to {action}")
        statuses = {name: task.status for name, task in of.all_tasks.items()}
        names = kept_for_retry(of.graph, statuses) if start is None else kept_for_fork(of.graph, statuses, start)
        kept = {name: of.left.get(name, {}) for name in names}
        told = {"trigger": action, f"{action}_of": of.id, "kept": len(kept)}
        return self._run(memory, of.inputs, Origin(kept=kept, told=told))

    def _run(self, memory: Memory, inputs: Mapping[str, Any], origin: Origin) -> Result:
        performer = Performer(memory, slots=self._slots, limits=self._limits)
        before = len(memory.executions)
        try:
            execution = performer.start(self, inputs, origin)
            performer.run(execution)
        except BaseException:
            del memory.executions[before:]  # another one may be executed beside nothing that is left open
            raise
        return Result(self, memory, execution)

    # -- what a performer asks ---------------------------------------------------------------------------------------

    def resolve(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs of an execution. Raises `Invalid` with every problem."""
        try:
            return resolve_inputs(mapping(self._data.get("inputs")), inputs)
        except Invalid as wrong:
            raise _told(wrong.detail, wrong.problems, code=wrong.code) from None

    def secret(self, name: str) -> str:
        """What steps are given as `${secrets.NAME}`: what this harness was told, else a text that says so."""
        return self._secrets.get(name, f"(the secret {name})")

    def story(self, task: str) -> Story | None:
        """The mocks of a task: its own, or those of its step."""
        return self._stories.get(task) or self._stories.get(step_of(task))

    def outcome(self, spec: StepSpec, call: Call) -> Outcome:
        """How an attempt ends. Raises `HarnessError` for a step without a mock."""
        if spec.kind not in ("python", "agent"):  # what these are given is between their authors
            checked = parse(_SCHEMAS[spec.kind], spec.kind, call.config)
            if isinstance(checked, StepResult) and checked.error is not None:
                return fails(type=checked.error.type, message=checked.error.message, retryable=checked.error.retryable)
        if (story := self.story(call.step_id)) is not None:
            return story.next(call)
        if spec.kind == "python" and call.config.get("call") in BUILTINS:
            return perform(builtin, call)
        what = f"python: {call.config.get('call')}" if spec.kind == "python" else spec.kind
        raise HarnessError(f'step `{spec.id}` ({what}) has no mock: say what it does, .mock("{spec.id}", returns(…))')

    # -- parts -------------------------------------------------------------------------------------------------------

    def _step(self, task: str) -> StepSpec:
        spec = self.graph.steps.get(step_of(task))
        if spec is None:
            known = list(self.graph.steps)
            hint = Suggester()(step_of(task), known) or f"; there are {', '.join(known[:20])}"
            raise HarnessError(f"there is no step `{task}` in `{self.name}`{hint}")
        if task != spec.id and spec.for_each is None:
            raise HarnessError(f"`{task}`: `{spec.id}` has no items, it has no `for_each`")
        return spec

    def _happens(self, told: str, at: float, happening: Happening) -> Harness:
        if not at >= 0:
            raise HarnessError(f"{told}: seconds after the execution was created, 0 or more")
        self.script.append(Action(told=told, at=at, happenings=lambda _: [happening]))
        return self

    def _answers(self, verb: str, step: str, at: float | None, **values: Any) -> Harness:
        if self._step(step).kind != "approval":
            raise HarnessError(f'.{verb}("{step}"): it is no approval')
        asked: Callable[[MemoryExecution], list[str]] = lambda execution: [  # noqa: E731
            name
            for name in execution.open
            if execution.all_tasks[name].waiting_for == APPROVAL and step in (name, step_of(name))
        ]
        told = f'.{verb}("{step}"{"" if at is None else f", at={at:g}"})'
        self.script.append(
            Action(
                told=told, at=at, happenings=lambda execution: [Decided(step_id=n, **values) for n in asked(execution)]
            )
        )  # fmt: skip
        return self


def _read(definition: Definition, folders: Sequence[Path]) -> Any:
    if isinstance(definition, Mapping):
        return dict(definition)
    if isinstance(definition, str) and ("\n" in definition or definition.lstrip().startswith("{")):
        return load(definition)
    for folder in folders:
        if (path := folder / definition).is_file():
            return load(path.read_bytes())
    tried = ", ".join(str(folder / definition) for folder in folders)
    raise HarnessError(f"there is no file {tried}")


def _checked(data: Any) -> Mapping[str, Any]:
    """The data of a definition. A callable that is not built in counts as known: whether it is, its server knows."""
    steps = sequence(mapping(data).get("steps"))
    named = [mapping(step).get("python") for step in steps]
    names = [call.get("call") if isinstance(call, Mapping) else call for call in named]
    known = {name for name in names if isinstance(name, str) and not name.startswith("builtin.")}
    problems = problems_of(data, executor_configs=_SCHEMAS, known_callables=known | BUILTINS)
    if problems:
        raise _told("the definition cannot be saved", problems, code="invalid_definition")
    checked: Mapping[str, Any] = data
    return checked


def _told(what: str, problems: Sequence[Problem], *, code: str) -> Invalid:
    lines = [f"{problem.pointer or '(the whole)'}: {problem.message}" for problem in problems]
    return Invalid("\n  ".join([f"{what}:", *lines]), code=code, problems=problems)
