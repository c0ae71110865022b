"""Steps of kind `python`: a registered callable, in the loop when it is a coroutine, else in a child process."""

import asyncio
import json
import traceback
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from apps.executors.failure import StepFailed
from apps.executors.guard import Guard
from apps.executors.logs import CappedLog
from apps.executors.options import Options
from apps.executors.outputs import Unrecordable, encode
from apps.executors.python.catalogue import Catalogue, Registered, UnknownCallable, bind
from apps.executors.python.context import IDENTITY, Context
from apps.executors.python.messages import message_of, one_line
from apps.executors.python.pool import Pool
from apps.executors.types import Sink, StepCall, StepError, StepResult


class Config(BaseModel):
    """`python: {call, with}`: the name of a callable and its keyword arguments."""

    model_config = ConfigDict(extra="forbid")

    call: str = Field(min_length=1, max_length=500, description="The name of a registered callable.")
    arguments: dict[str, Any] = Field(default_factory=dict, alias="with", description="Its keyword arguments.")


class PythonExecutor:
    """Performs callables. The configuration is checked by hand: this is the engine's hot path."""

    kind = "python"
    Config: type[BaseModel] = Config

    def __init__(self, options: Options, guard: Guard) -> None:
        self._options = options
        self._guard = guard
        self._pool: Pool | None = None

    @cached_property
    def catalogue(self) -> Catalogue:
        """The callables; made at first use, which imports the team's modules."""
        return Catalogue(self._options.callable_modules)

    async def run(self, call: StepCall, sink: Sink) -> StepResult:
        """Perform one attempt. A coroutine that runs in the loop must not block it: that is what `def` is for."""
        config = call.config
        name, given = config.get("call"), config.get("with")
        if given is None:
            given = {}
        if (problem := _problem(config, name, given)) is not None:
            return _invalid(problem)
        if "catalogue" not in self.__dict__:  # a team's modules may take seconds to import
            await asyncio.to_thread(lambda: self.catalogue)
        try:
            found = self.catalogue.find(str(name))
        except UnknownCallable as error:
            return _invalid(str(error))
        if (problem := bind(found, given)) is not None:
            return _invalid(problem)
        log = CappedLog(sink, limit=self._options.max_log_bytes)
        if found.is_async:
            return await self._in_loop(found, given, call, log)
        return await self._in_child(found, given, call, log)

    async def close(self) -> None:
        """Kill the children."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def _in_loop(self, found: Registered, given: Mapping[str, Any], call: StepCall, log: CappedLog) -> StepResult:
        arguments = dict(given)
        if found.takes_context:
            identity = {name: getattr(call, name) for name in IDENTITY}
            arguments["context"] = Context(
                identity,
                attempt=call.attempt,
                log=lambda text: log.log("stdout", text),
                progress=log.progress,
            )
        try:
            outputs = await found.function(**arguments)
        except StepFailed as failed:
            return _failed(failed.type, failed.message, retryable=failed.retryable)
        except asyncio.CancelledError as raised:
            if _being_cancelled():
                raise
            return _raised(raised, log)  # its own: nobody cancelled this step
        except GeneratorExit:
            raise
        except BaseException as raised:  # a callable's sys.exit must not end the worker
            return _raised(raised, log)
        if _being_cancelled():
            raise asyncio.CancelledError  # it swallowed the cancel and returned
        if outputs is None or outputs == {}:
            return StepResult(left_files=found.takes_context)
        try:
            text = encode(outputs, limit=self._options.max_output_bytes)
        except Unrecordable as bad:
            return _failed("output", str(bad), retryable=False)
        return StepResult(outputs=json.loads(text), left_files=found.takes_context)

    async def _in_child(
        self, found: Registered, given: Mapping[str, Any], call: StepCall, log: CappedLog
    ) -> StepResult:
        if self._pool is None:
            self._pool = Pool(self._options, self._guard)
        identity = {name: getattr(call, name) for name in IDENTITY} if found.takes_context else None
        return await self._pool.run(
            {
                "module": found.module,
                "attribute": found.attribute,
                "arguments": given,
                "attempt": call.attempt,
                "identity": identity,
            },
            log,
        )


def _problem(config: Mapping[str, Any], name: object, given: object) -> str | None:
    if not isinstance(name, str) or not name:
        return "python.call must be the name of a callable"
    if not isinstance(given, dict):
        return "python.with must be an object of keyword arguments"
    if unknown := config.keys() - {"call", "with"}:
        return f"python.{min(unknown)} is not a field: use call and with"
    return None


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _raised(raised: BaseException, log: CappedLog) -> StepResult:
    frames = raised.__traceback__
    try:
        text = "".join(traceback.format_exception(type(raised), raised, frames.tb_next if frames else None))
    except Exception:
        text = "(the traceback cannot be printed)\n"
    log.log("stderr", text)
    return _failed("error", message_of(raised), exception=type(raised).__name__)


def _failed(kind: str, message: str, *, retryable: bool = True, exception: str = "") -> StepResult:
    return StepResult(error=StepError(type=kind, message=one_line(message), retryable=retryable, exception=exception))


def _invalid(message: str) -> StepResult:
    return _failed("invalid", message, retryable=False)
