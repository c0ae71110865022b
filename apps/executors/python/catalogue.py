"""Which callables there are: the built-in ones, those of installed packages, and those of named modules.

A module that cannot be imported takes only its own callables away, and is remembered with its error.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from apps.executors.python import builtins
from apps.executors.python.messages import message_of

ENTRY_POINTS = "orchestration.callables"
"""The entry-point group: `name = package.module:function`, or a whole module's public functions as `name.FUNCTION`."""


class UnknownCallable(LookupError):
    """No callable has that name; the message says which come close or which module could not be imported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """One callable: where a child process finds it again, and how it is called."""

    name: str
    module: str
    attribute: str
    function: Callable[..., Any]
    signature: inspect.Signature
    is_async: bool
    takes_context: bool


class Catalogue:
    """The callables by name. Made once: a module changed later is seen after a restart.

    `problems` maps the name of a module or entry point that could not be loaded to what to tell about it.
    """

    def __init__(self, modules: Iterable[str]) -> None:
        self.problems: dict[str, str] = {}
        self._known: dict[str, Registered] = {}
        for point in entry_points(group=ENTRY_POINTS):
            self._add_entry_point(point)
        for name in modules:
            if (module := self._load(name, f"module {name}", partial(import_module, name))) is not None:
                self._add_module(name, module)
        self._add_module("builtin", builtins)  # last: nobody takes the name of a built-in one

    @property
    def names(self) -> frozenset[str]:
        """Every callable that can be called."""
        return frozenset(self._known)

    def find(self, name: str) -> Registered:
        """The callable of that name. Raises UnknownCallable."""
        found = self._known.get(name)
        if found is not None:
            return found
        for broken, error in self.problems.items():
            if name == broken or name.startswith(broken + "."):
                raise UnknownCallable(f"callable {name!r}: {error}")
        close = get_close_matches(name, self._known, 3)
        hint = f"did you mean {' or '.join(close)}?" if close else "is its module named in CALLABLE_MODULES?"
        raise UnknownCallable(f"there is no callable {name!r}: {hint}")

    def _add_entry_point(self, point: EntryPoint) -> None:
        loaded = self._load(point.name, f"entry point {point.name}", point.load)
        if isinstance(loaded, ModuleType):
            self._add_module(point.name, loaded)
        elif callable(loaded):
            self._add(point.name, point.module, point.attr, loaded)
        elif point.name not in self.problems:
            self.problems[point.name] = f"{point.value} is neither a function nor a module"

    def _add_module(self, prefix: str, module: ModuleType) -> None:
        for attribute, value in vars(module).items():
            own = inspect.isfunction(value) and value.__module__ == module.__name__
            if own and not attribute.startswith("_"):
                self._add(f"{prefix}.{attribute}", module.__name__, attribute, value)

    def _add(self, name: str, module: str, attribute: str, function: Callable[..., Any]) -> None:
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError) as error:
            self.problems[name] = f"{name} cannot be called: {message_of(error)}"
            return
        self._known[name] = Registered(
            name=name,
            module=module,
            attribute=attribute,
            function=function,
            signature=signature,
            is_async=inspect.iscoroutinefunction(inspect.unwrap(function)),
            takes_context="context" in signature.parameters,
        )

    def _load(self, name: str, what: str, load: Callable[[], Any]) -> Any:
        try:
            return load()
        except (Exception, SystemExit) as error:
            self.problems[name] = f"{what} could not be imported: {message_of(error)}"
            return None


def bind(registered: Registered, given: Mapping[str, Any]) -> str | None:
    """What is wrong with calling it with the keywords `given`, or None."""
    if not given and not registered.signature.parameters:
        return None
    if registered.takes_context:
        if "context" in given:
            return f"callable {registered.name!r}: `context` is filled in by the platform; leave it out of `with`"
        given = {**given, "context": None}
    try:
        registered.signature.bind(**given)
    except TypeError as error:
        return f"callable {registered.name!r}: {error}"
    return None
