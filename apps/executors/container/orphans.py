"""Containers that nobody waits for any more, their worker having died: found by their labels, and removed."""

from collections.abc import Iterable
from dataclasses import dataclass

from apps.executors.container.labels import ATTEMPT, TASK
from apps.executors.container.leftovers import of_installation, removed
from apps.executors.options import Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A container of this installation: its id, and the attempt that it was made for."""

    id: str
    task_key: str
    attempt: int


def found(options: Options) -> list[Found]:
    """Every container of this installation, on whichever worker's behalf; none where the engine does not answer."""
    boxes = of_installation(options, lambda client, filters: client.containers(all=True, filters=filters))
    return [
        Found(id=box["Id"], task_key=labels.get(TASK, ""), attempt=int(labels[ATTEMPT]))
        for box, labels in boxes
        if labels.get(ATTEMPT, "").isdecimal()
    ]


def remove(options: Options, boxes: Iterable[Found]) -> int:
    """Kill and remove them; gives how many."""
    ids = (box.id for box in boxes)
    return removed(options, ids, lambda client, one: client.remove_container(one, force=True, v=True))
