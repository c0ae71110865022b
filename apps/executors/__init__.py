"""How a step is performed: the platform's only way out to processes, containers and the network.

No Django and no database here. Names are loaded when first used, so that a child process which needs only
`StepFailed` starts in milliseconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apps.executors.failure import StepFailed
    from apps.executors.options import Options
    from apps.executors.registry import Executors
    from apps.executors.types import Executor, Sink, StepCall, StepError, StepResult

__all__ = ["Executor", "Executors", "Options", "Sink", "StepCall", "StepError", "StepFailed", "StepResult"]

_HOMES = {
    "Executor": "types",
    "Executors": "registry",
    "Options": "options",
    "Sink": "types",
    "StepCall": "types",
    "StepError": "types",
    "StepFailed": "failure",
    "StepResult": "types",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = found
    return found
