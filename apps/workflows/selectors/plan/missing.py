"""What a step needs that is not there now. Reads rows and settings.

It asks nobody, but for the socket of Docker or Podman where CONTAINER_RUNTIME leaves open what runs containers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from django.conf import settings

from apps.workflows.definition.kinds import mapping, sequence
from apps.workflows.definition.suggestions import Suggester
from apps.workflows.engine.graph import OWN_KINDS
from apps.workflows.engine.labels import LabelError, Value, parse
from apps.workflows.models import Lane, Performer
from apps.workflows.selectors.environment import allowed_environment
from apps.workflows.selectors.performing import executor_options, executors

What = Literal["performer", "queue", "callable", "executor", "workflow", "environment", "secret", "receiver", "input"]
Finding = tuple[What, str]

# The kinds that the engine sees to itself: no performer claims them.
PERFORMERS = 1000  # of those that were heard of last
COMPARISONS = 1_000_000  # of performers with requirements; beyond them nothing more is said to be missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """One thing that is missing, with the fix. `step_id` is None for what concerns the whole workflow."""

    step_id: str | None
    what: What
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Profile:
    """What performers have in common that a claim looks at; `queues` None are all."""

    kind: str
    labels: Mapping[str, Value]
    queues: frozenset[str] | None


class Performers:
    """Those that live and take new work: heard of within a lease, not draining."""

    def __init__(self, now: datetime) -> None:
        since = now - timedelta(seconds=settings.ENV.LEASE_SECONDS)
        rows = Performer.objects.filter(seen_at__gte=since, draining=False).order_by("-seen_at")[:PERFORMERS]
        # A fleet's workers are mostly alike: each likeness is asked once.
        found: dict[str, _Profile] = {}
        for kind, labels, queues in rows.values_list("kind", "labels", "queues"):
            served = None if queues is None else frozenset(map(str, sequence(queues)))
            profile = _Profile(kind=kind, labels=mapping(labels), queues=served)
            found[f"{kind} {sorted(profile.labels.items())!r} {sorted(served or ())!r} {served is None}"] = profile
        self._profiles = list(found.values())
        self._paused = frozenset(Lane.objects.filter(paused=True).values_list("queue", flat=True))
        self._left = COMPARISONS
        self._answers: dict[tuple[str, str, tuple[str, ...]], tuple[Finding, ...]] = {}

    def findings(self, kind: str, queue: str, requires: tuple[str, ...]) -> tuple[Finding, ...]:
        """What keeps a step of this kind from being claimed."""
        if kind in OWN_KINDS:
            return ()
        who = "agent" if kind == "agent" else "worker"
        key = (who, queue, requires)
        if key not in self._answers:
            self._answers[key] = tuple(self._found(who, queue, requires))
        return self._answers[key]

    def _found(self, who: str, queue: str, requires: tuple[str, ...]) -> Iterator[Finding]:
        if queue in self._paused:
            yield "queue", f"the queue `{queue}` is paused: resume it"
        self._left -= len(self._profiles)
        if self._left < 0:
            return
        alive = [each for each in self._profiles if each.kind == who]
        serving = [each for each in alive if each.queues is None or queue in each.queues]
        if not serving:
            if not alive:
                fix = "register one and let it claim" if who == "agent" else "start one (`manage.py worker`)"
                yield "performer", f"no {who} is alive that takes work: {fix}"
            else:
                fix = "let one claim from it" if who == "agent" else f"start one (`manage.py worker --queues {queue}`)"
                yield "queue", f"no {who} that is alive serves the queue `{queue}`: {fix}, or change the step's `queue`"
            return
        try:
            wanted = [parse(each) for each in requires]
        except LabelError as error:
            yield "performer", f"`requires` cannot be read: {error.message}"
            return
        self._left -= len(serving) * len(wanted)
        if self._left < 0 or any(all(one.holds(each.labels) for one in wanted) for each in serving):
            return
        alone = [one.text for one in wanted if not any(one.holds(each.labels) for each in serving)]
        unmet = ", ".join(f"`{text}`" for text in (alone or requires)[:10])
        together = "" if alone or len(requires) == 1 else " together"
        yield (
            "performer",
            f"no {who} on the queue `{queue}` meets {unmet}{together}: give one these labels "
            f"({'in its registration' if who == 'agent' else '`--labels` or WORKER_LABELS'}), or change `requires`",
        )


class Installation:
    """What this server has and allows: executors, callables, variables."""

    def __init__(self) -> None:
        known = executors()
        self._options = executor_options()
        self._configs = known.configs()
        self._callables = known.callables()
        self._environment = allowed_environment()
        self._suggest = Suggester()

    def executor(self, kind: str) -> Iterator[Finding]:
        """Why steps of this kind cannot be performed by workers here."""
        runtime, processes = self._options.container_runtime, self._options.process_steps
        if kind not in self._configs:
            if kind not in OWN_KINDS and kind != "agent":
                yield "executor", f"there is no executor for steps of kind `{kind}`: change the kind of the step"
        elif kind == "process" and processes == "off":
            yield (
                "executor",
                "commands are switched off here (PROCESS_STEPS=off): set PROCESS_STEPS=sandboxed, or "
                "PROCESS_STEPS=trusted where every author of a workflow is trusted, or use a `python` step",
            )
        elif kind == "container" and runtime == "none":
            fix = "set DAGGER_SESSION_PORT and DAGGER_SESSION_TOKEN, or DOCKER_HOST"
            yield "executor", f"the image cannot be run (CONTAINER_RUNTIME=none): {fix}"

    def callable(self, kind: str, config: Mapping[str, Any]) -> Iterator[Finding]:
        """Whether the callable of a python step is known."""
        name = config.get("call")
        if kind == "python" and isinstance(name, str) and name not in self._callables:
            hint = self._suggest(name, self._callables)
            fix = "install its package, or name its module in CALLABLE_MODULES"
            yield "callable", f"there is no callable `{name[:100]}`{hint or f': {fix}'}"

    def variables(self, names: Sequence[str]) -> Iterator[Finding]:
        """Which of these variables, that have no default, have no value either."""
        for name in names:
            if name not in self._environment:
                allowed = name in settings.ENV.WORKFLOW_ENV_ALLOWED
                why = "is not set: set it" if allowed else "is not offered: name it in WORKFLOW_ENV_ALLOWED"
                shown = name[:100]
                yield "environment", f"the variable {shown} {why}, or give it a default (`${{{shown}:-…}}`)"
