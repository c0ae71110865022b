"""Which kind a step is, and what its executor is given. Reads data as it was written, also where it is not valid."""

from collections.abc import Mapping, Sequence
from typing import Any

from apps.workflows.engine.expressions import ExpressionError, references

ADDED = "executor"  # the key of steps whose kind an installed package adds
KEYED_KINDS = ("python", "http", "llm", "agent", "workflow", "approval", "wait")
KIND_KEYS = frozenset({*KEYED_KINDS, ADDED, "image", "command"})
"""The keys that say of what kind a step is."""

# What else a kind makes use of; on any other kind these keys would be silently ignored.
_CONTAINER_ONLY = ("resources", "user", "network", "registry", "engine_cache")
COMMAND_KEYS = ("image", "command", "environment", "volumes", "caches", *_CONTAINER_ONLY)
USED_KEYS: Mapping[str, frozenset[str]] = {
    "container": frozenset(COMMAND_KEYS),
    "process": frozenset({"command", "environment"}),
}


def mapping(value: Any) -> Mapping[str, Any]:
    """`value` where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> Sequence[Any]:
    """`value` where it is a list, else an empty one."""
    return value if isinstance(value, list | tuple) else ()


def kinds_of(step: Mapping[str, Any], container_config: Mapping[str, Any]) -> list[str]:
    """Every kind that a step asks for: valid is exactly one.

    A step with an image of its own is a container; one with `command` and nothing else is a container where
    `container_config` has an image, and a process where it has none.
    """
    found = [kind for kind in KEYED_KINDS if step.get(kind) is not None]
    if step.get(ADDED) is not None:
        kind = str(mapping(step[ADDED]).get("kind"))
        # The platform's own kinds have keys of their own.
        found.append(f"{ADDED}:{kind}" if kind in KEYED_KINDS or kind in USED_KEYS else kind)
    if step.get("image") is not None:
        found.append("container")
    elif step.get("command") is not None:
        found.append("process" if found or container_config.get("image") is None else "container")
    return found


def config_of(kind: str, step: Mapping[str, Any], container_config: Mapping[str, Any]) -> dict[str, Any]:
    """What the executor of `kind` is given for `step`, `${…}` still in it (for the engine's own: as written)."""
    match kind:
        case "python":
            return _python(step["python"])
        case "http":
            return dict(mapping(step["http"]))
        case "process":
            return {"command": step["command"], "environment": _environment(step, container_config)}
        case "container":
            return _container(step, container_config)
        case "wait" | "approval" | "workflow":
            return dict(mapping(step[kind]))
    return dict(mapping(mapping(step.get("agent" if kind == "agent" else ADDED)).get("with")))


def written_at(
    kind: str,
    loc: tuple[str | int, ...],
    *,
    path: tuple[str | int, ...],
    step: Mapping[str, Any],
    container_config: Mapping[str, Any],
) -> tuple[str | int, ...]:
    """Where the author wrote what stands at `loc` of `config_of(…)`. `path` leads to the step."""
    if kind not in USED_KEYS and kind not in KEYED_KINDS:
        return (*path, ADDED, "with", *loc)
    if kind not in USED_KEYS:
        return (*path, kind, *(loc if isinstance(step[kind], Mapping) else ()))
    match loc:
        case ("image" | "resources" | "user" | "network" | "registry" | "engine_cache" as key, *_) if (
            step.get(key) is None
        ):
            return "container_config", *loc
        case ("environment" | "secrets", key, *rest):
            own = key in mapping(step.get("environment"))
            return (*path, "environment", key, *rest) if own else ("container_config", "environment", key, *rest)
        case ("volumes" | "caches" as key, int() as index, *rest):
            shared = len(sequence(container_config.get(key)))
            return ("container_config", *loc) if index < shared else (*path, key, index - shared, *rest)
    return *path, *loc


def _container(step: Mapping[str, Any], container_config: Mapping[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for key in ("image", *_CONTAINER_ONLY):
        value = container_config.get(key) if step.get(key) is None else step[key]
        if value is not None or key == "image":
            config[key] = value
    config["volumes"] = [*sequence(container_config.get("volumes")), *sequence(step.get("volumes"))]
    if caches := [*sequence(container_config.get("caches")), *sequence(step.get("caches"))]:
        config["caches"] = caches
    if step.get("command") is not None:
        config["command"] = step["command"]
    # Variables that hold a secret go apart, so that a runtime which can hide their values does.
    environment = _environment(step, container_config)
    secrets = {name: value for name, value in environment.items() if _tells_secret(value)}
    config["environment"] = {name: value for name, value in environment.items() if name not in secrets}
    return config | ({"secrets": secrets} if secrets else {})


def _tells_secret(value: Any) -> bool:
    if not isinstance(value, str) or "secrets" not in value:
        return False
    try:
        return any(found.root == "secrets" for found in references(value))
    except ExpressionError:
        return False  # it is told as a mistake of its own


def _python(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {"call": value.get("call"), "with": {}, **value}
    return {"call": value, "with": {}}


def _environment(step: Mapping[str, Any], container_config: Mapping[str, Any]) -> dict[str, Any]:
    return {**mapping(container_config.get("environment")), **mapping(step.get("environment"))}
