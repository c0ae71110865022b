"""Steps of kind `container`. This version checks and plans them, and says clearly that nothing here runs them yet."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from apps.executors.config import failed, parse
from apps.executors.options import Options
from apps.executors.process import Command, Environment
from apps.executors.types import Sink, StepCall, StepResult

AbsolutePath = Annotated[str, Field(pattern=r"^/[^\x00]*$", max_length=4_096)]


class Volume(BaseModel):
    """A directory of the host, seen inside the container."""

    model_config = ConfigDict(extra="forbid")

    source: AbsolutePath
    target: AbsolutePath
    read_only: bool = False


class Resources(BaseModel):
    """Upper limits: `cpu` in cores (`"1"`, `"0.5"`, `"500m"`), `memory` in bytes or with K, M, G, Ki, Mi, Gi."""

    model_config = ConfigDict(extra="forbid")

    cpu: str | None = Field(default=None, pattern=r"^(\d+(\.\d+)?|\d+m)$", max_length=20)
    memory: str | None = Field(default=None, pattern=r"^\d+(\.\d+)?([KMGT]i?)?B?$", max_length=20)


class Config(BaseModel):
    """`image`, `command`, `environment`, `volumes`, `resources`."""

    model_config = ConfigDict(extra="forbid")

    image: str = Field(min_length=1, max_length=500, pattern=r"^[^\s\x00]+$")
    command: Command | None = None
    environment: Environment = Field(default_factory=dict)
    volumes: list[Volume] = Field(default_factory=list, max_length=100)
    resources: Resources = Field(default_factory=Resources)


class ContainerExecutor:
    """Answers `unavailable`, with what to install or configure."""

    kind = "container"
    Config: type[BaseModel] = Config

    def __init__(self, options: Options) -> None:
        self._runtime = options.container_runtime

    async def run(self, call: StepCall, sink: Sink) -> StepResult:  # noqa: ARG002 -- nothing is run, nothing to log
        """Check the configuration, then say what is missing. Not retryable: time alone changes neither."""
        config = parse(Config, self.kind, call.config)
        if isinstance(config, StepResult):
            return config
        if self._runtime == "none":
            message = (
                f"the image {config.image} cannot be run: no container runtime is configured (CONTAINER_RUNTIME). "
                "Container steps need a Dagger engine (DAGGER_SESSION_PORT, DAGGER_SESSION_TOKEN, "
                "CONTAINER_RUNTIME=dagger) or the socket of Docker or Podman (DOCKER_HOST, CONTAINER_RUNTIME=docker); "
                "this version drives neither yet: use a process or python step."
            )
        else:
            message = (
                f"the image {config.image} cannot be run: CONTAINER_RUNTIME={self._runtime} is configured, but this "
                "version does not drive that runtime yet. Use a process or python step, or an agent."
            )
        return failed("unavailable", message, retryable=False)

    async def close(self) -> None:
        """Nothing is kept."""
