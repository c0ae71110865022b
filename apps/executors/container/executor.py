"""Performs `container` steps: what any runtime needs is made ready here, and what it left becomes a result."""

import codecs
from dataclasses import replace

from pydantic import BaseModel

from apps.executors.config import failed, parse
from apps.executors.container.config import ARTIFACTS, memory_bytes, nano_cpus
from apps.executors.container.config import Config as ContainerConfig
from apps.executors.container.labels import labels_of
from apps.executors.container.volumes import allowed
from apps.executors.container.work import Ended, NotPerformed, Runtime, Work
from apps.executors.logs import CappedLog
from apps.executors.options import Options
from apps.executors.process.outcome import KILLED, LAST_CHARACTERS, Captured, error_of, outputs_of
from apps.executors.tracing import ended, span_of, trace_environment
from apps.executors.types import Sink, StepCall, StepResult, Stream

NOTHING_RUNS = (
    "no container runtime is configured (CONTAINER_RUNTIME=none, or nothing answered when this process began). Start a "
    "Dagger engine and set DAGGER_SESSION_PORT and DAGGER_SESSION_TOKEN, or start Docker or Podman and let DOCKER_HOST "
    "name its socket; then restart the workers"
)


class ContainerExecutor:
    """One runtime for all steps of a worker, made when the first needs it."""

    kind = "container"
    Config: type[BaseModel] = ContainerConfig

    def __init__(self, options: Options) -> None:
        self._options = options
        self._runtime: Runtime | None = None

    async def run(self, call: StepCall, sink: Sink) -> StepResult:
        """Perform one attempt. A cancel, also that of a deadline, stops and removes the container first."""
        config = parse(ContainerConfig, self.kind, call.config)
        if isinstance(config, StepResult):
            return config
        output = _Output(CappedLog(sink, limit=self._options.max_log_bytes), self._options.max_output_bytes)
        try:
            runtime = self._chosen()
            with span_of("exec") as span:
                left = await runtime.perform(self._work(call, config), output.receive)
                output.close()
                return ended(span, output.result(left, config))
        except NotPerformed as error:
            text = f"The image {config.image}: {str(error).rstrip('. ')}."
            return failed(error.type, text, retryable=error.retryable, exception=error.exception)
        except Exception as error:
            return failed("error", f"The image {config.image} could not be run: {type(error).__name__}: {error}")
        finally:
            output.close()

    async def close(self) -> None:
        """Let go of the runtime's connections."""
        if self._runtime is not None:
            await self._runtime.close()

    def _chosen(self) -> Runtime:
        if self._runtime is None:
            if self._options.container_runtime == "dagger":
                from apps.executors.container.dagger import DaggerRuntime

                self._runtime = DaggerRuntime(self._options)
            elif self._options.container_runtime == "docker":
                from apps.executors.container.docker import DockerRuntime

                self._runtime = DockerRuntime(self._options)
            else:
                raise NotPerformed("unavailable", NOTHING_RUNS, retryable=False)
        return self._runtime

    def _work(self, call: StepCall, config: ContainerConfig) -> Work:
        identity = {
            "ORCHESTRATION_TASK_KEY": call.task_key,
            "ORCHESTRATION_ATTEMPT_KEY": call.attempt_key,
            **trace_environment(),
            **({"ORCHESTRATION_ARTIFACTS": ARTIFACTS} if call.artifacts else {}),
        }
        own = {**config.environment, **config.secrets}
        limits = config.resources
        return Work(
            image=config.image,
            command=None if config.command is None else tuple(config.command),
            environment=config.environment,
            identity={name: value for name, value in identity.items() if name not in own},
            secrets=config.secrets,
            stdin=call.stdin,
            volumes=allowed(config.volumes, self._options),
            caches=tuple(config.caches),
            memory=None if limits.memory is None else memory_bytes(limits.memory),
            nano_cpus=None if limits.cpu is None else nano_cpus(limits.cpu),
            user=config.user,
            network=config.network != "none",
            registry=config.registry,
            engine_cache=config.engine_cache,
            labels=labels_of(call, self._options.installation),
            artifacts=call.artifacts,
            max_artifact_bytes=self._options.max_artifact_bytes,
        )


class _Output:
    """What a container writes: to the log as it comes, and kept for outputs and error messages."""

    def __init__(self, log: CappedLog, limit: int) -> None:
        self._log = log
        self._limit = limit
        self._kept = {"stdout": Captured(limit), "stderr": Captured(LAST_CHARACTERS)}
        made = codecs.getincrementaldecoder("utf-8")
        self._decoders = {"stdout": made("replace"), "stderr": made("replace")}

    def receive(self, stream: Stream, data: bytes, *, final: bool = False) -> None:
        """Take what was read."""
        text = self._decoders[stream].decode(data, final)
        if text:
            self._kept[stream].add(text)
            self._log.log(stream, text)

    def close(self) -> None:
        """What is left of characters that were never completed."""
        self.receive("stdout", b"", final=True)
        self.receive("stderr", b"", final=True)

    def result(self, ended: Ended, config: ContainerConfig) -> StepResult:
        """The outputs where it ended with 0, else why it did not."""
        if ended.exit_code == 0:
            try:
                outputs, remark = outputs_of(self._kept["stdout"], self._limit)
            except ValueError as error:
                return failed("output", str(error), retryable=False)
            self._log.log("stderr", remark)
            return StepResult(outputs=outputs)
        failure = error_of(ended.exit_code, self._kept["stderr"])
        code = f"(exit code {ended.exit_code})"
        if ended.out_of_memory:
            limit = f" of {config.resources.memory}" if config.resources.memory else ""
            message = f"The container ran out of memory{limit} and was killed {code}: give it more `resources.memory`."
            failure = replace(failure, type="oom", message=message)
        elif ended.exit_code == KILLED and ended.out_of_memory is False:
            message = f"The container was killed, and not for lack of memory {code}."
            failure = replace(failure, type="exit_code", message=message)
        return StepResult(error=failure)
