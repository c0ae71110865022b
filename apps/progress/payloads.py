"""The frames of the socket: each kind as text, made once for all who get it."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from apps.progress.frames import Frame
from apps.workflows.engine.states import TERMINAL
from apps.workflows.models import Execution
from apps.workflows.selectors.progress import summary

_ENDINGS = frozenset(str(status) for status in TERMINAL)


def encode(data: Mapping[str, Any]) -> str:
    """JSON in ASCII: whatever was stored, no reader's socket fails over it."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def event(told: Mapping[str, Any], *, execution_id: UUID, slug: str) -> Frame:
    """An event of the journal, as `selectors.progress.events_after` tells it."""
    about = {key: value for key, value in told.items() if key != "type"}
    status = told.get("status")
    kind = str(told["type"])
    ending = str(status) if status in _ENDINGS and kind.endswith(f".{status}") else None
    return Frame(
        text=encode({**about, "type": "event", "workflow_id": slug, "event": kind}),
        execution_id=execution_id,
        seq=int(told["seq"]),
        ending=ending,
        last=ending is not None and kind.startswith("execution."),
    )


def snapshot(state: Mapping[str, Any], *, without: frozenset[str]) -> Frame:
    """Where an execution is; steps that ended in a way the reader did not ask for are left out."""
    steps = {name: step for name, step in state["steps"].items() if step["status"] not in without}
    told = {"type": "snapshot", **state, "steps": steps}
    return Frame(text=encode(told), execution_id=UUID(state["execution_id"]), seq=int(state["seq"]), snapshot=True)


def overview(rows: list[Execution], *, truncated: bool) -> Frame:
    """What a reader of everything begins with: the executions that have not ended, newest first."""
    return Frame(
        text=encode(
            {
                "type": "snapshot",
                "workflow_id": None,
                "executions": [summary(row) for row in rows],
                "truncated": truncated,
            }
        )
    )


def execution(row: Execution) -> Frame:
    """A new execution of a workflow somebody watches."""
    return Frame(text=encode({"type": "execution", **summary(row)}))


def plain(kind: str, **data: Any) -> Frame:
    """A frame that is about the conversation itself."""
    return Frame(text=encode({"type": kind, **data}))
