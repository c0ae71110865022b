"""Who performs a task, as far as a caller may know: the performer's name, or only of what kind it is.

And what the journal tells of it: one text for all who watch, without what only some may know.

Workers are what `system:read` opens, agents what `agent:read` opens. Whoever may read an execution but not who performs
it is told `worker` or `agent`. A grant on a single agent shows that one at `/agents`, and names none here.
"""

from collections.abc import Callable, Mapping
from typing import Any

from apps.accounts.permissions import Permission, holds
from apps.workflows.engine.types import TRACKER
from apps.workflows.models.performers import OF_AGENT

# The journal keeps them; `relations` tells of them, to those who may read the other execution.
_RELATED = frozenset({"parent_execution_id", "parent_step_id", "child_execution_id", "child_workflow_id"})
_READ = {"worker": Permission.SYSTEM_READ, "agent": Permission.AGENT_READ}


def kind_of(owner: str) -> str:
    """`worker` or `agent`, by what a lease names as its owner; what is no performer's (nobody, a tracker) stays."""
    if owner in ("", TRACKER):
        return owner
    return "agent" if owner.startswith(OF_AGENT) else "worker"


def unnamed(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a line of the journal says to everybody: of a performer its kind, of related executions nothing."""
    return _told(data, kind_of)


def _told(data: Mapping[str, Any], name_of: Callable[[str], str]) -> Mapping[str, Any]:
    if not _RELATED.isdisjoint(data):
        data = {key: value for key, value in data.items() if key not in _RELATED}
    return {**data, "performer": name_of(str(data["performer"]))} if "performer" in data else data


class Names:
    """How performers are called to one caller, asked once for all that he is shown."""

    def __init__(self, user: Any) -> None:
        self.kinds = frozenset(kind for kind, permission in _READ.items() if holds(user, permission))
        """The kinds of which he is told the names."""

    @property
    def all(self) -> bool:
        """Whether he is told every name."""
        return self.kinds == _READ.keys()

    def of(self, owner: str) -> str:
        """The name of a lease's owner, or its kind."""
        kind = kind_of(owner)
        return kind if kind in _READ and kind not in self.kinds else owner

    def told(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a line of the journal says, as this caller is told it."""
        return _told(data, self.of)
