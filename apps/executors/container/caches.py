"""Cache volumes of containers, which the engine keeps: found by their labels, and removed where nobody uses them."""

from collections.abc import Iterable
from dataclasses import dataclass

from apps.executors.container.labels import WORKFLOW
from apps.executors.container.leftovers import of_installation, removed
from apps.executors.options import Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A cache of this installation: what the engine calls it, and the id of the workflow that it was made for."""

    name: str
    workflow: str


def found(options: Options) -> list[Found]:
    """Every cache of this installation on this engine; none where it does not answer."""
    volumes = of_installation(options, lambda client, filters: client.volumes(filters=filters)["Volumes"] or [])
    return [Found(name=volume["Name"], workflow=labels[WORKFLOW]) for volume, labels in volumes if labels.get(WORKFLOW)]


def remove(options: Options, caches: Iterable[Found]) -> int:
    """Remove them, but for those that a container has; gives how many."""
    # Without force: the engine refuses where a container has it.
    return removed(options, (cache.name for cache in caches), lambda client, name: client.remove_volume(name))
