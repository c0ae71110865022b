"""The executors by kind, made from the options; nothing is started before a step needs it."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

from pydantic import BaseModel

from apps.core.errors import Invalid
from apps.executors import container, http, process
from apps.executors.guard import Guard
from apps.executors.options import Options
from apps.executors.python import executor as python
from apps.executors.types import Executor

_CONFIGS: Mapping[str, type[BaseModel]] = MappingProxyType(
    {
        "container": container.Config,
        "http": http.Config,
        "process": process.Config,
        "python": python.Config,
    }
)


class Executors:
    """One set per worker process and event loop; `close` it in that loop."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._guard = Guard(options.work_dir)
        self._python = python.PythonExecutor(options, self._guard)
        self._executors: dict[str, Executor] = {
            "container": container.ContainerExecutor(options),
            "http": http.HttpExecutor(options),
            "process": process.ProcessExecutor(options, self._guard),
            "python": self._python,
        }

    @staticmethod
    def configs() -> Mapping[str, type[BaseModel]]:
        """The configuration schema of each kind: a definition is checked by it before it is saved."""
        return _CONFIGS

    def get(self, kind: str) -> Executor:
        """The executor of that kind. Raises Invalid."""
        try:
            return self._executors[kind]
        except KeyError:
            raise Invalid(f"There is no executor {kind!r}: use one of {', '.join(sorted(self._executors))}.")

    def artifacts_of(self, attempt_key: str) -> str:
        """The directory for what an attempt leaves; nothing is made."""
        return str(self._guard.place(f"artifacts-{attempt_key.replace(':', '-')}"))

    def callables(self) -> frozenset[str]:
        """The names that a `python` step may call. Imports the team's modules, starts no process."""
        return self._python.catalogue.names

    def problems(self) -> Mapping[str, str]:
        """The modules and entry points whose callables could not be loaded, each with its error."""
        return MappingProxyType(self._python.catalogue.problems)

    async def close(self) -> None:
        """Kill every child, drop connections, remove private directories; waits until that is done."""
        for executor in self._executors.values():
            await executor.close()
        await asyncio.to_thread(self._guard.close)
