"""The executors by kind, made from the options; nothing is started before a step needs it.

Installed packages add kinds of their own by an entry point in the group `orchestration.executors`, which is named as
the kind and leads to a class: its `Config` is the schema of the step's `with`, and it is made with the options. One
that cannot be loaded takes only its own kind away, and is remembered with its error.
"""

import asyncio
import inspect
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from apps.core.errors import Invalid
from apps.executors import container, http, process
from apps.executors.guard import Guard
from apps.executors.options import Options
from apps.executors.python import executor as python
from apps.executors.python.messages import message_of
from apps.executors.types import Executor

_CONFIGS: Mapping[str, type[BaseModel]] = MappingProxyType(
    {
        "container": container.Config,
        "http": http.Config,
        "process": process.Config,
        "python": python.Config,
    }
)

ENTRY_POINTS = "orchestration.executors"
TAKEN = frozenset({*_CONFIGS, "llm", "agent", "workflow", "approval", "wait"})
_KIND = re.compile(r"[a-z][a-z0-9-]{0,49}")


@cache
def _added() -> tuple[Mapping[str, Callable[[Options], Executor]], Mapping[str, str]]:
    """What installed packages add, by kind, and what is wrong with the others. A change is seen after a restart."""
    made: dict[str, Callable[[Options], Executor]] = {}
    problems: dict[str, str] = {}
    for point in entry_points(group=ENTRY_POINTS):
        try:
            found = point.load()
            problem = _unfit(point, found, made)
        except (Exception, SystemExit) as error:
            problem = f"the executor {point.name!r} could not be imported: {message_of(error)}"
        if problem:
            problems[point.name] = problem
        else:
            made[point.name] = found
    return MappingProxyType(made), MappingProxyType(problems)


def _unfit(point: EntryPoint, found: Any, made: Mapping[str, object]) -> str:
    if not _KIND.fullmatch(point.name) or point.name in TAKEN or point.name in made:
        return f"the executor {point.name!r} needs another name: lower-case letters, digits and -, and not a taken one"
    schema = getattr(found, "Config", None)
    if not inspect.isclass(schema) or not issubclass(schema, BaseModel):
        return f"the executor {point.name!r} has no `Config`, a pydantic model of what its steps may say"
    missing = [name for name in ("run", "close") if not inspect.iscoroutinefunction(getattr(found, name, None))]
    return f"the executor {point.name!r} lacks `async def {missing[0]}`" if missing else ""


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
        return {**_CONFIGS, **{kind: make.Config for kind, make in _added()[0].items()}}  # type: ignore[attr-defined]

    def get(self, kind: str) -> Executor:
        """The executor of that kind. Raises Invalid."""
        added, problems = _added()
        if kind not in self._executors and kind in added:
            self._executors[kind] = added[kind](self.options)
        if kind in self._executors:
            return self._executors[kind]
        known = ", ".join(sorted({*self._executors, *added}))
        raise Invalid(f"There is no executor {kind!r}: {problems.get(kind) or f'use one of {known}'}.")

    def artifacts_of(self, attempt_key: str) -> str:
        """The directory for what an attempt leaves; nothing is made."""
        return self._guard.place(f"artifacts-{attempt_key.replace(':', '-')}")

    def callables(self) -> frozenset[str]:
        """The names that a `python` step may call. Imports the team's modules, starts no process."""
        return self._python.catalogue.names

    def problems(self) -> Mapping[str, str]:
        """The modules and entry points whose callables or executors could not be loaded, each with its error."""
        return MappingProxyType({**_added()[1], **self._python.catalogue.problems})

    async def close(self) -> None:
        """Kill every child, drop connections, remove private directories; waits until that is done."""
        for executor in self._executors.values():
            await executor.close()
        await asyncio.to_thread(self._guard.close)
