"""What the steps of an execution count for in its percentage: given to it by its id, once and for all.

Weights have an id as executions have, dated some seconds ahead of the moment at which they are written. They are those
of every execution with a greater id, until the next ones. So whoever reads weights knows for how long his reading
holds, nothing is asked of the database while it does, and no process ever sees an execution's weights change.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from apps.workflows.engine.graph import Graph, Weights
from apps.workflows.models import StepWeights

AHEAD_MS = 20_000  # by how much weights are dated ahead
SKEW_MS = 10_000  # by how much the clocks of two hosts may differ
READ = 20
_MOST = 2_000


@dataclass(slots=True)
class _Read:
    """The last weights of a workflow, the newest first; they are all that executions made before `until` can have."""

    until: int
    rows: list[tuple[UUID, Mapping[str, float]]]
    fitted: dict[tuple[UUID, int], tuple[Graph, Weights]] = field(default_factory=dict)


_known: dict[UUID, _Read] = {}


def weights_of(workflow: UUID, execution: UUID, graph: Graph) -> Weights | None:
    """The weights of an execution's steps; None where they all count the same. Mostly without a query."""
    made = execution.int >> 80
    read = _known.get(workflow)
    if read is None or made > read.until:
        read = _read(workflow)
    for key, by_step in read.rows:
        if key < execution:
            place = (key, id(graph))
            if place not in read.fitted:
                read.fitted[place] = (graph, Weights.of(graph, by_step))  # with the graph, so that its id stays its own
            return read.fitted[place][1]
    return None


def _read(workflow: UUID) -> _Read:
    until = int(time.time() * 1000) + AHEAD_MS - SKEW_MS
    rows = StepWeights.objects.filter(workflow=workflow).order_by("-id").values_list("pk", "by_step")[:READ]
    read = _Read(until, list(rows))
    if len(_known) >= _MOST:
        _known.clear()
    _known[workflow] = read
    return read


def newest(workflow: UUID) -> tuple[UUID, Mapping[str, float]] | None:
    """The newest weights of a workflow with their id, also those that no execution has yet."""
    return StepWeights.objects.filter(workflow=workflow).order_by("-id").values_list("pk", "by_step").first()
