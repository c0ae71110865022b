"""Stand-ins for the executors' configuration schemas, and the short way to ask for problems."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from apps.core.errors import Problem
from apps.workflows.definition import load, problems_of

CALLABLES = ("builtin.noop", "builtin.echo", "reports.total")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PythonConfig(Strict):
    call: str
    with_: dict[str, Any] = Field(alias="with", default_factory=dict)


class ProcessConfig(Strict):
    command: list[str] = Field(min_length=1)
    environment: dict[str, str]


class Mount(Strict):
    source: str = Field(pattern="^/")
    target: str = Field(pattern="^/")
    read_only: bool = False


class ContainerConfig(Strict):
    image: str = Field(pattern=r"^[a-z0-9./:-]+$")
    command: list[str] | None = None
    environment: dict[str, str]
    secrets: dict[str, str] = {}
    volumes: list[Mount]
    resources: dict[str, str] | None = None


class HttpConfig(Strict):
    url: str
    method: str = "GET"
    headers: dict[str, str] = {}
    body: Any = None
    expect: int | list[int] = 200


CONFIGS: dict[str, type[BaseModel]] = {
    "python": PythonConfig,
    "process": ProcessConfig,
    "container": ContainerConfig,
    "http": HttpConfig,
}


@pytest.fixture
def configs() -> dict[str, type[BaseModel]]:
    return CONFIGS


@pytest.fixture
def problems() -> Callable[..., list[Problem]]:
    """Every problem of a YAML text or of data."""

    def ask(definition: Any, **options: Any) -> list[Problem]:
        data = load(definition) if isinstance(definition, str) else definition
        options = {"executor_configs": CONFIGS, "known_callables": CALLABLES} | options
        return problems_of(data, **options)

    return ask


@pytest.fixture
def found(problems) -> Callable[..., set[tuple[str, str]]]:
    """The pointers and codes of every problem."""
    return lambda definition, **options: {(each.pointer, each.code) for each in problems(definition, **options)}


@pytest.fixture
def step_found(found) -> Callable[..., set[tuple[str, str]]]:
    """The same for one step beside a good one called `first`; the step may leave out its id."""

    def ask(step: dict[str, Any], **rest: Any) -> set[tuple[str, str]]:
        steps = [{"id": "first", "python": "builtin.noop"}, {"id": "it", **step}]
        return {
            (pointer.removeprefix("/steps/1"), code) for pointer, code in found({"name": "w", "steps": steps, **rest})
        }

    return ask
