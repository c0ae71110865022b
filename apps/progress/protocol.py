"""The frames of the socket as types. What a client says is read by them; docs publish them; tests hold every frame
that is sent against them.
"""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from apps.core.errors import Invalid
from apps.workflows.engine.states import Status

Percent = Annotated[float, Field(ge=0, le=100)]
Seq = Annotated[int, Field(ge=0, description="Number of the execution's last event.")]
Time = Annotated[str, Field(description="RFC 3339, in UTC.")]


# --- what a client says -----------------------------------------------------------------------------------------------


class _Said(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class Ping(_Said):
    """Asks whether anybody is there; the answer is `pong`."""

    type: Literal["ping"]


class Subscribe(_Said):
    """Be told of this, too: a snapshot, then every event after `since` (without it, after the snapshot)."""

    type: Literal["subscribe"]
    workflow_id: str = Field(description="A workflow's id (its newest execution) or an execution's.")
    since: int | None = Field(None, ge=0, description="The `seq` of the last event that you have of that execution.")


class Unsubscribe(_Said):
    """No more of this; the answer is `unsubscribed`."""

    type: Literal["unsubscribe"]
    workflow_id: str = Field(description="As it was subscribed to.")


Said: TypeAlias = Annotated[Ping | Subscribe | Unsubscribe, Field(discriminator="type")]
_said: TypeAdapter[Ping | Subscribe | Unsubscribe] = TypeAdapter(Said)


def said(data: Any) -> Ping | Subscribe | Unsubscribe:
    """What a client's frame says. Raises `Invalid` ("bad_frame", "unknown_type")."""
    try:
        return _said.validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"].startswith("union_tag"):
            raise Invalid("`type` must be ping, subscribe or unsubscribe.", code="unknown_type") from None
        # Within the union the place begins with the kind: ("subscribe", "since").
        name = first["loc"][-1] if len(first["loc"]) > 1 else ""
        what = f"`{name}`: {first['msg']}" if name else "A frame is a JSON object."
        raise Invalid(what, code="bad_frame") from None


# --- what the server tells --------------------------------------------------------------------------------------------


class _Told(BaseModel):
    model_config = ConfigDict(extra="allow")


class StepState(_Told):
    """Where a step is; with `for_each` also `items`."""

    status: Status
    percent_complete: Percent
    message: str
    attempt: int = Field(ge=0)
    started_at: Time | None
    finished_at: Time | None
    error: dict[str, Any] | None = None
    items: dict[str, int] | None = None


class ExecutionState(_Told):
    """Where an execution is, without its steps."""

    workflow_id: str
    execution_id: str
    status: Status
    percent_complete: Percent
    message: str
    error: dict[str, Any] | None = None
    created_at: Time
    started_at: Time | None
    updated_at: Time
    finished_at: Time | None
    seq: Seq


class Snapshot(ExecutionState):
    """Where an execution is, with its steps. The first frame of a subscription; `seq` is the cursor to go on from."""

    type: Literal["snapshot"]
    steps: dict[str, StepState]


class Overview(_Told):
    """The first frame of a socket that asked for everything: what has not ended, newest first."""

    type: Literal["snapshot"]
    workflow_id: None
    executions: list[ExecutionState]
    truncated: bool = Field(description="There are more than are told here.")


class Event(_Told):
    """A line of the journal; of each execution every one once, in the order of `seq`. Values are absolute."""

    type: Literal["event"]
    event: str = Field(description="What happened: `task.started`, `execution.completed`, …")
    workflow_id: str
    execution_id: str
    seq: Annotated[int, Field(ge=1)]
    step_id: str | None
    at: Time
    status: Status | None = None
    percent_complete: Percent | None = None
    overall_percent: Percent | None = None
    message: str | None = None


class Newer(ExecutionState):
    """An execution that began: of a workflow that was asked for by its id, or any where everything was asked for."""

    type: Literal["execution"]


class Pong(_Told):
    """The answer to `ping`."""

    type: Literal["pong"]


class Unsubscribed(_Told):
    """The answer to `unsubscribe`."""

    type: Literal["unsubscribed"]
    workflow_id: str


class Error(_Told):
    """The last frame before a close: why."""

    type: Literal["error"]
    code: str
    message: str


Told: TypeAlias = Snapshot | Overview | Event | Newer | Pong | Unsubscribed | Error
told: TypeAdapter[Told] = TypeAdapter(Told)
_SAID, _TOLD = (Ping, Subscribe, Unsubscribe), (Snapshot, Overview, Event, Newer, Pong, Unsubscribed, Error)

CLOSE_CODES = {
    4400: "a frame or query that is not understood",
    4401: "the credential has ended",
    4403: "the right has ended",
    4404: "an unknown id, or another's",
    1009: "a frame too large",
    1013: "the reader is too slow, or something failed on the server's side: connect again with `since`",
}


def asyncapi(version: str) -> dict[str, Any]:
    """The protocol as an AsyncAPI 3.0 document; `version` is the platform's."""
    _, schemas = TypeAdapter.json_schemas(
        [(kind, "validation", TypeAdapter(kind)) for kind in (*_SAID, *_TOLD)],
        ref_template="#/components/schemas/{model}",
    )
    names = [kind.__name__ for kind in (*_SAID, *_TOLD)]
    messages = {
        name: {
            "title": name,
            "contentType": "application/json",
            "payload": {"$ref": f"#/components/schemas/{name}"},
        }
        for name in names
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Live progress",
            "version": version,
            "description": "The socket of the AI Orchestration Platform. After one `Error` frame it closes by: "
            + "; ".join(f"{code} {meaning}" for code, meaning in CLOSE_CODES.items())
            + ".",
        },
        "defaultContentType": "application/json",
        "channels": {
            "progress": {
                "address": "/progress/ws",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
                "bindings": {"ws": {"method": "GET", "query": _query()}},
            }
        },
        "operations": {
            "say": _operation("receive", _SAID),
            "tell": _operation("send", _TOLD),
        },
        "components": {"messages": messages, "schemas": schemas["$defs"]},
    }


def _operation(action: str, kinds: tuple[type[BaseModel], ...]) -> dict[str, Any]:
    refs = [{"$ref": f"#/channels/progress/messages/{kind.__name__}"} for kind in kinds]
    return {"action": action, "channel": {"$ref": "#/channels/progress"}, "messages": refs}


def _query() -> dict[str, Any]:
    flag = {"type": "boolean"}
    return {
        "type": "object",
        "properties": {
            "workflow_id": {"type": "string", "description": "Without it: all that the caller may read."},
            "since": {"type": "integer", "minimum": 0, "description": "Every event after this `seq`."},
            "include_completed": {**flag, "default": True},
            "include_failed": {**flag, "default": True},
            "coalesce": {**flag, "default": False, "description": "Rather a snapshot than the end when too slow."},
            "ticket": {"type": "string", "description": "From `POST /progress/ticket`."},
        },
    }
