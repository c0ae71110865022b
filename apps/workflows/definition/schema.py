"""The schema of a definition: what a workflow file may say. Types and limits of single values only.

What concerns several values at once (ids, dependencies, references, kinds of steps) is in `validate`.
"""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, StringConstraints

STEPS = 10_000
INPUTS = 200
DAYS_30 = 30 * 24 * 3600

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$", max_length=100)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"\S")]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$", max_length=64)]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)]
Seconds = Annotated[float, Field(gt=0, le=DAYS_30, allow_inf_nan=False)]
Delay = Annotated[float, Field(ge=0, le=24 * 3600, allow_inf_nan=False)]
Environment = dict[VariableName, str]
Argument = Annotated[str, StringConstraints(max_length=131_072)]  # Linux: MAX_ARG_STRLEN
ErrorType = Literal[
    "error",
    "exit_code",
    "timeout",
    "oom",
    "http_status",
    "connection",
    "refused",
    "unavailable",
    "invalid",
    "output",
    "workflow",
]


def _is_rule(value: Any) -> Any:
    """What `retry.on` may name: a type of error, an exit code, or a Python exception by its class."""
    known = isinstance(value, str) and (value in get_args(ErrorType) or _CLASS.fullmatch(value))
    if known or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255):
        return value
    raise ValueError(
        f"it must be one of {', '.join(get_args(ErrorType))}, an exit code from 0 to 255, or the class of an exception"
    )


_CLASS = re.compile(r"[A-Z][A-Za-z0-9_]{0,99}")
RetryRule = Annotated[Any, PlainValidator(_is_rule, json_schema_input_type=ErrorType | int | str)]
BreakerRule = Annotated[
    Any,
    PlainValidator(
        lambda value: value if value == "lost" else _is_rule(value),
        json_schema_input_type=ErrorType | Literal["lost"] | int | str,
    ),
]
"""What a breaker's `on` may name besides: that a performer died."""


def _with_name(value: Any) -> Any:
    return {"call": value} if isinstance(value, str) else value


def _as_text(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


class Model(BaseModel):
    """Common rules: no unknown key, no conversion of types, no change after reading."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        validate_by_name=False,
        validate_by_alias=True,
        hide_input_in_errors=True,
    )


class Volume(Model):
    """A directory of the host that a container sees."""

    source: str = Field(min_length=1, max_length=4096, description="Path on the host, beneath one of VOLUME_ROOTS.")
    target: str = Field(min_length=1, max_length=4096, description="Absolute path in the container.")
    read_only: bool = Field(default=False, description="Whether the container may only read it.")


class Resources(Model):
    """What a container may use at most."""

    cpu: str | None = Field(default=None, max_length=32, description='Processors, as text: "0.5", "2".')
    memory: str | None = Field(default=None, max_length=32, description='Memory with its unit: "512M", "2G".')


class CacheVolume(Model):
    """A directory that the runtime keeps between steps of this workflow."""

    name: str = Field(min_length=1, max_length=64, description="Steps that name the same cache share it.")
    target: str = Field(min_length=1, max_length=4096, description="Absolute path in the container.")


class Registry(Model):
    """Who pulls an image from its registry."""

    username: str = Field(min_length=1, max_length=1000, description="Account at the registry.")
    password: str = Field(min_length=1, max_length=100_000, description="Its password or token.")


Network = Literal["default", "none"]


class ContainerConfig(Model):
    """What every container step of this workflow starts from; `environment` holds for process steps too."""

    image: str | None = Field(default=None, min_length=1, max_length=500, description="Image of steps that name none.")
    environment: Environment = Field(
        default_factory=dict, description="Variables, of process steps too; a step's own win."
    )
    volumes: list[Volume] = Field(default_factory=list, max_length=100, description="Mounted before a step's own.")
    caches: list[CacheVolume] = Field(default_factory=list, max_length=20, description="Caches beside a step's own.")
    resources: Resources | None = Field(default=None, description="Limits of steps that name none.")
    user: str | None = Field(default=None, max_length=200, description="User of steps that name none.")
    network: Network | None = Field(default=None, description="Network of steps that name none.")
    registry: Registry | None = Field(default=None, description="Credentials of steps that name none.")
    engine_cache: bool | None = Field(default=None, description="What holds for steps that do not say.")


class Retry(Model):
    """How often a failed attempt is tried again, and when."""

    max_attempts: int = Field(default=1, ge=1, le=1001, description="Attempts in all: 1 means no retry.")
    delay: Delay = Field(default=0.0, description="Seconds before the first retry.")
    backoff: float = Field(default=1.0, ge=1, le=100, description="Factor on the delay from retry to retry.")
    max_delay: Delay = Field(default=3600.0, description="Seconds that a delay never exceeds.")
    jitter: bool = Field(default=False, description="Whether the delay is drawn from 0 up to its value.")
    on: list[RetryRule] = Field(
        default_factory=list, description="Retry these only: types of errors, exit codes, names of Python exceptions."
    )
    not_on: list[RetryRule] = Field(default_factory=list, description="Never retry these.")
    lost: int = Field(default=3, ge=0, le=1000, description="How many lost performers are made good, apart from it.")


class PythonCall(Model):
    """A registered callable whose return value, a JSON object, is the outputs."""

    call: str = Field(min_length=1, max_length=200, description="Name of the callable.")
    with_: dict[str, Any] = Field(alias="with", default_factory=dict, description="Its keyword arguments.")


class Http(BaseModel):
    """A request. The keys beside `url` are those of the http executor and are checked against its configuration."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, hide_input_in_errors=True)

    url: str = Field(min_length=1, max_length=8192, description="Where the request goes.")


class Added(Model):
    """Work for an executor that an installed package adds."""

    kind: str = Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=50, description="Its kind, as the package names it.")
    with_: dict[str, Any] = Field(alias="with", default_factory=dict, description="What it is given.")


class Llm(Model):
    """A call of a language model."""

    model: str = Field(min_length=1, max_length=200, description="Name of the model.")
    messages: list[dict[str, Any]] = Field(min_length=1, description="The conversation so far.")
    tools: list[dict[str, Any]] = Field(default_factory=list, description="What the model may call.")
    output_schema: dict[str, Any] | None = Field(default=None, description="JSON Schema of its answer.")
    temperature: float | None = Field(default=None, ge=0, le=2, description="0 is the most predictable.")
    max_tokens: int | None = Field(default=None, ge=1, description="Length of the answer.")


class Agent(Model):
    """Work for a registered agent."""

    requires: list[str] = Field(default_factory=list, description='Labels it must have: "gpu >= 1".')
    with_: dict[str, Any] = Field(alias="with", default_factory=dict, description="The task's inputs.")


class SubWorkflow(Model):
    """Another workflow, run as a step."""

    id: str = Field(min_length=1, max_length=200, description="Its id.")
    version: int | None = Field(default=None, ge=1, description="Which version; the newest where none is named.")
    inputs: dict[str, Any] = Field(default_factory=dict, description="Its inputs.")


class Approval(Model):
    """A person's yes or no."""

    who: list[str] = Field(default_factory=list, description="Roles or users who may decide.")
    allow_requester: bool = Field(default=False, description="Whether who started the execution may decide.")
    form: dict[str, Any] = Field(default_factory=dict, description="JSON Schema of what is asked besides.")
    timeout_seconds: Seconds | None = Field(default=None, description="How long it waits.")
    on_timeout: Literal["approve", "reject", "fail"] = Field(default="fail", description="What happens then.")


class Wait(Model):
    """A pause: for a time, until a time, or for a signal. Exactly one of them."""

    seconds: Seconds | None = Field(default=None, description="How long.")
    until: str | None = Field(default=None, max_length=100, description="Until when: an ISO 8601 time.")
    signal: Identifier | None = Field(default=None, description="For which signal.")


class Cache(Model):
    """Results that are used again."""

    key: str = Field(min_length=1, max_length=1000, description="Equal keys share a result.")
    ttl_seconds: Seconds = Field(default=24 * 3600, description="For how long.")


class RateLimit(Model):
    """A limit shared by name."""

    name: Word = Field(description="Steps that name the same limit share it.")
    per_minute: int = Field(ge=1, le=1_000_000, description="Starts a minute, evenly spread.")
    burst: int = Field(default=1, ge=1, le=10_000, description="Starts that may come at once after a quiet time.")


class CircuitBreaker(Model):
    """What stops steps from starting while a dependency of theirs is down. Steps that name the same one share it.

    Thresholds are the breaker's: the definition that was saved last and gives them sets them for all, unless an
    administrator has fixed them.
    """

    name: Word = Field(description="Steps that name the same breaker share it, over all workflows.")
    failures: int | None = Field(default=None, ge=1, le=10_000, description="It opens after so many failures (5) …")
    ratio: float | None = Field(
        default=None, gt=0, le=1, allow_inf_nan=False, description="… that are at least this share of calls (0.5) …"
    )
    window_seconds: float | None = Field(
        default=None, ge=1, le=86_400, allow_inf_nan=False, description="… within so many seconds (60)."
    )
    open_seconds: float | None = Field(
        default=None, ge=1, le=86_400, allow_inf_nan=False, description="A probe is let through after so many (30)."
    )
    on: list[BreakerRule] | None = Field(
        default=None, min_length=1, max_length=50, description="Which errors count; the others are the caller's own."
    )


def _with_breaker(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


BreakerName = Annotated[CircuitBreaker, BeforeValidator(_with_breaker, json_schema_input_type=str | CircuitBreaker)]


class Concurrency(Model):
    """How many executions may run at once."""

    key: str = Field(min_length=1, max_length=1000, description="Executions with equal keys are counted together.")
    limit: int = Field(default=1, ge=1, le=10_000, description="How many of them may run.")
    on_conflict: Literal["queue", "cancel_running", "reject"] = Field(
        default="queue", description="What becomes of one more."
    )


class Notify(Model):
    """Who is told about the end of an execution."""

    on: list[Literal["completed", "failed", "timed_out", "cancelled"]] = Field(min_length=1, description="Which ends.")
    webhook: Word = Field(description="Name of the receiver, as it is registered at /notifications.")


class Output(Model):
    """A named result of the execution."""

    name: Identifier = Field(description="Its name.")
    value: Any = Field(description="Its value; one whole `${…}` keeps its type.")


class Step(Model):
    """One step: what to do, what it needs, how to retry. Exactly one kind."""

    id: Identifier = Field(description="Unique in this workflow.")
    name: Name | None = Field(default=None, description="Shown to people; the id where there is none.")
    description: str = Field(default="", max_length=10_000, description="What it is for.")

    depends_on: list[Identifier] = Field(default_factory=list, max_length=STEPS, description="Steps it waits for.")
    when: Annotated[str, BeforeValidator(_as_text, json_schema_input_type=str | bool)] | None = Field(
        default=None, description="A condition, `${…}`; the step is skipped where it does not hold."
    )
    on: Literal["success", "failure", "always"] = Field(
        default="success", description="Which end of its dependencies lets it run."
    )
    for_each: Any = Field(default=None, description="A list; one task per item.")
    max_parallel: int | None = Field(default=None, ge=1, le=10_000, description="Of these at once.")

    timeout_seconds: Seconds | None = Field(default=None, description="For one attempt.")
    queue_timeout_seconds: Seconds | None = Field(default=None, description="For waiting to be claimed.")
    total_timeout_seconds: Seconds | None = Field(default=None, description="For all attempts together.")
    retries: int | None = Field(default=None, ge=0, le=1000, description="Retries after the first attempt.")
    retry_delay: Delay | None = Field(default=None, description="Seconds before each retry.")
    retry: Retry | None = Field(default=None, description="The long form of `retries` and `retry_delay`.")
    allow_failure: bool = Field(default=False, description="Whether its failure leaves the execution good.")

    queue: Word = Field(default="default", description="Which workers perform it.")
    requires: list[str] = Field(
        default_factory=list, max_length=20, description='What a performer\'s labels must be: "gpu >= 1".'
    )
    prefers: list[str] = Field(
        default_factory=list, max_length=20, description="What they should be; others get it five seconds later."
    )
    rate_limit: RateLimit | None = Field(default=None, description="A limit shared by name.")
    circuit_breaker: BreakerName | None = Field(default=None, description="A breaker shared by name.")
    cache: Cache | None = Field(default=None, description="Results that are used again.")

    image: str | None = Field(default=None, min_length=1, max_length=500, description="Image of a container step.")
    command: list[Argument] | None = Field(
        default=None, min_length=1, max_length=10_000, description="Program and arguments; no shell."
    )
    environment: Environment = Field(default_factory=dict, description="Variables of a container or process.")
    volumes: list[Volume] = Field(default_factory=list, max_length=100, description="Mounts of a container.")
    caches: list[CacheVolume] = Field(default_factory=list, max_length=20, description="Caches of a container.")
    resources: Resources | None = Field(default=None, description="Limits of a container.")
    user: str | None = Field(default=None, max_length=200, description='User of a container: "1000:1000".')
    network: Network | None = Field(default=None, description="`none`: a container without a network.")
    registry: Registry | None = Field(default=None, description="Credentials with which the image is pulled.")
    engine_cache: bool | None = Field(default=None, description="Whether Dagger may answer from its own cache.")
    python: Annotated[PythonCall, BeforeValidator(_with_name, json_schema_input_type=str | PythonCall)] | None = Field(
        default=None, description="A registered callable."
    )
    http: Http | None = Field(default=None, description="A request.")
    executor: Added | None = Field(default=None, description="Work for an executor of an installed package.")
    llm: Llm | None = Field(default=None, description="A call of a language model.")
    agent: Agent | None = Field(default=None, description="Work for a registered agent.")
    workflow: SubWorkflow | None = Field(default=None, description="Another workflow.")
    approval: Approval | None = Field(default=None, description="A person's decision.")
    wait: Wait | None = Field(default=None, description="A pause.")


class Definition(Model):
    """A workflow: steps, their order and their rules."""

    name: Name = Field(description="Its id in URLs is made from it.")
    description: str = Field(default="", max_length=10_000, description="What it is for.")
    tags: list[Word] = Field(default_factory=list, max_length=50, description="To find it by.")
    inputs: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        max_length=INPUTS,
        description="A JSON Schema per input; one without `default` must be given.",
    )
    container_config: ContainerConfig | None = Field(default=None, description="What container steps start from.")
    outputs: list[Output] = Field(default_factory=list, max_length=1000, description="Results of the execution.")
    timeout_seconds: Seconds | None = Field(default=None, description="For the whole execution.")
    priority: int = Field(default=0, ge=-1000, le=1000, description="Higher goes first.")
    concurrency: Concurrency | None = Field(default=None, description="How many executions may run at once.")
    notify: list[Notify] = Field(default_factory=list, max_length=20, description="Who is told about the end.")
    circuit_breaker: BreakerName | None = Field(default=None, description="One that every step of it asks.")
    steps: list[Step] = Field(min_length=1, max_length=STEPS, description="The steps, in the order they are shown.")


def json_schema(*, base_url: str = "") -> dict[str, Any]:
    """The JSON Schema (Draft 2020-12) of definitions, for editors and other programs."""
    schema = Definition.model_json_schema(by_alias=True, mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{base_url.rstrip('/')}/schema/workflow.json",
        **schema,
        "title": "Workflow definition",
    }
