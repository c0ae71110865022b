"""What an installation does while it is being hurt: small executions of every hard shape, each with a known end."""

import random
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import Error, connection

from apps.accounts.models import User
from apps.core.errors import Conflict
from apps.workflows.models import Execution, Workflow
from apps.workflows.services import executions, workflows

# Deaths are what is tested here, not the budget for them.
_PATIENT = {"lost": 1000}


def _sleep(identity: str, *depends_on: str, seconds: float = 0.1, **values: Any) -> dict[str, Any]:
    call = {"call": "builtin.sleep", "with": {"seconds": seconds}}
    return {"id": identity, "python": call, "depends_on": list(depends_on), "retry": _PATIENT, **values}


_FAILS_ONCE = {"call": "builtin.fail", "with": {"times": 1, "message": "on purpose"}}
SHAPES: Sequence[Mapping[str, Any]] = (
    {
        "name": "Chaos diamond",
        "steps": [_sleep("a"), _sleep("b", "a", seconds=0.6), _sleep("c", "a"), _sleep("d", "b", "c")],
    },
    {
        "name": "Chaos map",
        "steps": [
            _sleep("list"),
            _sleep("each", "list", for_each=[1, 2, 3, 4, 5, 6], max_parallel=3),
            _sleep("end", "each"),
        ],
    },
    {
        "name": "Chaos retry",
        # Its attempts are told apart by number, so one that was lost may already have been the failing one.
        "steps": [
            {"id": "flaky", "python": _FAILS_ONCE, "retry": {"max_attempts": 3, "delay": 1, **_PATIENT}},
            {"id": "pause", "depends_on": ["flaky"], "wait": {"seconds": 1}},
            _sleep("after", "pause"),
        ],
    },
    {"name": "Chaos inner", "steps": [_sleep("x"), _sleep("y", "x", seconds=0.5)]},
    {
        "name": "Chaos outer",
        "steps": [
            _sleep("a"),
            {"id": "inner", "depends_on": ["a"], "workflow": {"id": "chaos-inner"}},
            _sleep("b", "inner"),
        ],
    },
)


class Load:
    """Starts executions as `by`, and remembers which were acknowledged. Retried by nobody: a refusal is a refusal."""

    def __init__(self, by: User, rng: random.Random) -> None:
        self._by, self._rng = by, rng
        self.acknowledged: list[UUID] = []
        self.refused = 0
        self._workflows: list[Workflow] = []

    def prepare(self) -> None:
        """Its workflows, where they are missing."""
        for shape in SHAPES:
            try:
                made = workflows.create(shape, by=self._by)
            except Conflict:
                made = Workflow.objects.get(slug=str(shape["name"]).lower().replace(" ", "-"))
            if made.slug != "chaos-inner":
                self._workflows.append(made)

    def start(self) -> None:
        """One more execution; a database that does not answer refuses it."""
        workflow = self._rng.choice(self._workflows)
        try:
            self.acknowledged.append(executions.start(workflow, by=self._by).pk)
        except Error:
            self.refused += 1
            connection.close()

    def left(self) -> int:
        """How many of the acknowledged have not ended. Raises Error."""
        ended = Execution.objects.filter(pk__in=self.acknowledged, finished_at__isnull=False).count()
        return len(self.acknowledged) - ended

    def broken_promises(self) -> list[str]:
        """What was acknowledged and is not there, or did not end as it must."""
        found = dict(Execution.objects.filter(pk__in=self.acknowledged).values_list("pk", "status"))
        return [
            f"I1 {one}: acknowledged, and {'it ended as ' + found[one] if one in found else 'not there'}"
            for one in self.acknowledged
            if found.get(one) != "completed"
        ]
