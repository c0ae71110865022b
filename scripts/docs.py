"""`python scripts/docs.py`: rewrites the parts of docs that derive from code; `--check` ends 1 where they differ.

A part stands between `<!-- generated: NAME -->` and `<!-- end: NAME -->`; all else in a file is written by hand.
"""

import argparse
import inspect
import json
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
_PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; what would end a cell is escaped."""
    names = list(head)
    lines = [names, ["---"] * len(names), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


# --- the engine -------------------------------------------------------------------------------------------------------


def diagram(name: str) -> str:
    """A table of `engine.states` as a state diagram."""
    from apps.workflows.engine import states

    moves: Mapping[Any, Iterable[Any]] = getattr(states, name)
    order = list(moves)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> pending"]
    lines += [f"    {a} --> {b}" for a in order for b in sorted(moves[a], key=order.index)]
    lines += [f"    {status} --> [*]" for status in order if not moves[status]]
    return "\n".join([*lines, "```"]) + "\n"


# --- settings ---------------------------------------------------------------------------------------------------------


def _type_of(annotation: Any, metadata: Iterable[Any]) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation) if value)
    if get_origin(annotation) is tuple:
        return "names, `a, b`"
    words = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path"}
    bounds = {name: getattr(one, name) for one in metadata for name in ("ge", "le", "pattern") if hasattr(one, name)}
    if pattern := bounds.get("pattern"):
        return f"text like `{pattern}`"
    low, high = bounds.get("ge"), bounds.get("le")
    limits = f", {low} to {high}" if high is not None else f", {low} or more" if low is not None else ""
    return words[annotation] + limits


def settings() -> str:
    """Every setting an operator may give."""
    from orchestration.environment import Environment

    rows = []
    for name, field in Environment.model_fields.items():
        default = field.default
        if isinstance(default, Path):
            default = f"{default.relative_to(ROOT)}` beside `manage.py"
        shown = str(default).lower() if isinstance(default, bool) else "" if default == () else str(default)
        kind = _type_of(field.annotation, field.metadata)
        rows.append((f"`{name}`", kind, f"`{shown}`" if shown else "empty", field.description))
    return table(("name", "type", "default", "meaning"), rows)


# --- definitions ------------------------------------------------------------------------------------------------------


def not_available() -> str:
    """What the schema knows and this version does not run."""
    from apps.workflows.definition.availability import NOT_AVAILABLE

    return table(("where", "key", "what it is"), ((place, f"`{key}`", name) for place, key, name in NOT_AVAILABLE))


def _word(annotation: Any) -> str:
    """A type in the words of a workflow file."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_word(one) for one in inner if one is not type(None)))
    if origin is list:
        return f"list of {_word(inner[0])}"
    if hasattr(annotation, "__metadata__"):
        asked = [getattr(one, "json_schema_input_type", None) for one in annotation.__metadata__]
        return _word(next((one for one in asked if one), inner[0]))
    words = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "any value"}
    return words.get(annotation, "mapping")


def keys(model: str, place: str) -> str:
    """What a mapping of a workflow file may say, without what this version refuses at `place`."""
    from apps.workflows.definition import schema
    from apps.workflows.definition.availability import reason

    refused = place in ("definition", "step")
    rows = [row for row in _rows(getattr(schema, model)) if not (refused and reason(place, row[0].strip("`")))]
    return table(("key", "type", "default", "meaning"), rows)


def _rows(model: Any, prefix: str = "") -> Iterator[tuple[str, str, str, str | None]]:
    """(key, type, default, meaning) of each key of a mapping."""
    for name, field in model.model_fields.items():
        value = None if field.is_required() else field.get_default(call_default_factory=True)
        shown = "" if value in (None, "", [], {}) else f"`{str(value).lower()}`"
        default = "must be given" if field.is_required() else shown
        yield f"`{prefix}{field.alias or name}`", _word(field.annotation), default, field.description


_INNER = {
    "container_config": "ContainerConfig", "volumes[]": "Volume", "caches[]": "CacheVolume", "resources": "Resources",
    "registry": "Registry", "outputs[]": "Output", "concurrency": "Concurrency", "notify[]": "Notify",
    "rate_limit": "RateLimit", "cache": "Cache", "python": "PythonCall", "executor": "Added", "agent": "Agent",
    "workflow": "SubWorkflow", "approval": "Approval", "wait": "Wait",
}  # fmt: skip


def inner_keys() -> str:
    """What the mappings within a workflow file may say, but for those with a table of their own."""
    from apps.workflows.definition import schema

    rows = [row for place, model in _INNER.items() for row in _rows(getattr(schema, model), f"{place}.")]
    return table(("key", "type", "default", "meaning"), rows)


def callables() -> str:
    """The callables of every installation."""
    from apps.executors.python.catalogue import Catalogue

    rows = []
    for name in sorted(Catalogue(()).names):
        known = Catalogue(()).find(name)
        given = [str(one).split(":")[0] for key, one in known.signature.parameters.items() if key != "context"]
        rows.append((f"`{name}`", ", ".join(f"`{one}`" for one in given), _first_line(known.function)))
    return table(("name", "given", "what it does"), rows)


# --- the API ----------------------------------------------------------------------------------------------------------


def _patterns(patterns: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for one in patterns:
        path = prefix + str(one.pattern)
        if hasattr(one, "url_patterns"):
            yield from _patterns(one.url_patterns, path)
        else:
            yield "/" + re.sub(r"\(\?P<(\w+)>[^()]*\)|<(?:\w+:)?(\w+)>", r"{\1\2}", path).strip("^$"), one.callback


def _endpoints(view: Any) -> Iterator[tuple[str, str, bool, str]]:
    """(method, what it asks for, whether owning or a grant does as well, what it is) of a DRF view."""
    from apps.accounts.api.permissions import DeclaredPermission, declared

    cls = getattr(view, "cls", None) or view.view_class
    actions = getattr(view, "actions", None) or {name: name for name in ("get", "post", "put", "delete")}
    for method, action in actions.items():
        handler = getattr(cls, action, None)
        if handler is None:
            continue
        instance = cls()
        instance.action = action if getattr(view, "actions", None) else None
        wider = any(one is not DeclaredPermission for one in cls.permission_classes)
        owned = wider and action in getattr(cls, "gated_actions", {action})
        ours = handler.__module__.startswith("apps.") and handler.__doc__
        yield method.upper(), str(declared(instance, method.upper())), owned, _first_line(handler if ours else cls)


_DJANGOS = {"/": "Leads to `/ui/`.", "/ui/logout": "POST ends this browser's session."}
"""What pages do that are Django's own."""


def routes() -> str:
    """Every HTTP route but the admin's, and the sockets."""
    from django.urls import get_resolver

    from apps.progress.routing import websocket

    rows: list[tuple[str, ...]] = []
    for path, view in _patterns(get_resolver().url_patterns):
        if path.startswith("/admin/"):
            continue
        if hasattr(getattr(view, "cls", getattr(view, "view_class", None)), "permission_classes"):
            for method, code, owned, about in _endpoints(view):
                rows.append((method, f"`{path}`", code + (" (or own)" if owned else ""), about))
        else:
            about = _first_line(view) if view.__module__.startswith("apps.") else _DJANGOS[path]
            rows.append(("page", f"`{path}`", str(view.required_permission), about))
    for route in websocket.routes:
        if consumer := getattr(route.callback, "consumer_class", None):
            asked = f"{consumer.required_permissions['connect']} (or own)"
            rows.append(("WS", f"`/{route.pattern}`", asked, _first_line(consumer)))
    return table(("method", "route", "asks for", "what it is"), rows)


def roles() -> str:
    """What each role holds when it is first made."""
    from apps.accounts.permissions import Permission, Role
    from apps.accounts.roles import DESCRIPTIONS, ROLES

    rows = [
        (f"`{code}`", DESCRIPTIONS[code], *("yes" if code in ROLES[role][1] else "" for role in Role))
        for code in Permission
    ]
    return table(("permission", "meaning", *Role), rows)


def permission_matrix() -> str:
    """Who gets in where: a cell holds one answer, or four in the order of the relations."""
    from orchestration import matrix

    rows = []
    for route, rule in matrix.ROUTES.items():
        method, _, path = route.partition(" ")
        row = [method, f"`{path}`", rule.permission or rule.kind]
        for caller in matrix.CALLERS:
            asked = ("foreign",) if caller == matrix.NOBODY else matrix.relations(rule)
            answers = [matrix.expected(rule, caller, relation) for relation in asked]
            row.append(answers[0] if len(set(answers)) == 1 else " ".join(answers))
        rows.append(row)
    cells = sum(1 for _ in matrix.cells())
    told = f"{len(matrix.ROUTES)} routes with {cells} cells, each asked by a real request."
    return f"{told}\n\n{table(('method', 'route', 'asks for', *matrix.CALLERS), rows)}"


def admin_matrix() -> str:
    """Who gets into which page of the admin, and for what."""
    from orchestration import matrix

    rows = []
    for page, (permission, verbs) in matrix.ADMIN.items():
        inside = ("yes" if matrix.expected_in_admin(page, "view", caller) == "yes" else "" for caller in matrix.CALLERS)
        rows.append((f"`/admin/{page}/`", permission, ", ".join(verbs), *inside))
    return table(("page", "asks for", "verbs", *matrix.CALLERS), rows)


def metrics() -> str:
    """The platform's own metrics."""
    from apps.monitoring.families import OURS

    return table(
        ("metric", "type", "labels", "meaning"),
        ((f"`{one.name}`", one.type, ", ".join(f"`{label}`" for label in one.labels), one.help) for one in OURS),
    )


def commands() -> str:
    """What `manage.py` can do besides what Django brings."""
    from django.core.management import get_commands, load_command_class

    ours = sorted(name for name, app in get_commands().items() if str(app).startswith("apps."))
    told = ((name, load_command_class(get_commands()[name], name).help) for name in ours)
    return table(("command", "what it does"), ((f"`{name}`", text.replace("*", "\\*")) for name, text in told))


# --- chaos ------------------------------------------------------------------------------------------------------------

_CHAOS = {
    "histories": "histories judged", "seeds": "seeds of the simulation", "commits": "commits in them",
    "commits_cut": "commits cut one by one", "rings_cut": "doorbells cut one by one", "kills": "processes killed",
    "stops": "workers stopped for a while", "server_kills": "servers killed",
    "database_restarts": "PostgreSQL stopped at once and started again", "executions": "executions",
    "steps": "steps of real processes", "events": "events read back", "violations": "violations",
}  # fmt: skip


def chaos() -> str:
    """The figures of `docs/chaos.json`."""
    path = DOCS / "chaos.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"totals": {}, "runs": []}
    totals: Mapping[str, int] = kept["totals"]
    rows = [(meaning, f"{totals.get(name, 0):,}") for name, meaning in _CHAOS.items()]
    rows.append(("slowest recovery in a storm (lease 5 s)", f"{kept.get('recovery_max', 0.0):g} s"))
    databases = sorted(
        {f"{run['database']} {run['of'][run['database']]}" for run in kept["runs"] if run["database"] in run["of"]}
    )
    rows.append(("on", ", ".join(databases)))
    return table(("what", "so far"), rows)


# --- fuzz ------------------------------------------------------------------------------------------------------------


def fuzz() -> str:
    """The figures of `docs/fuzz.json`."""
    kept = json.loads((DOCS / "fuzz.json").read_text(encoding="utf-8"))
    statuses: Mapping[str, int] = kept["statuses"]
    errors = sum(count for status, count in statuses.items() if not status.isdigit() or status >= "500")
    rows = [(f"requests as {caller}", f"{count:,}") for caller, count in sorted(kept["callers"].items())]
    rows += [
        ("requests in all", f"{kept['requests']:,}"),
        ("volleys, each in a world of its own", f"{kept['next_seed'] - 1:,}"),
        ("let in (2xx)", f"{sum(count for status, count in statuses.items() if status.startswith('2')):,}"),
        ("refused (4xx)", f"{sum(count for status, count in statuses.items() if status.startswith('4')):,}"),
        ("5xx, or raised", f"{errors:,}"), ("lists or pages that a record broke", f"{kept['poisoned']:,}"),
    ]  # fmt: skip
    return table(("what", "so far"), rows)


def mutants() -> str:
    """The verdicts of `docs/mutants.json`, by file. Those that live are listed with their reasons in the script."""
    kept: Mapping[str, Mapping[str, str]] = json.loads((DOCS / "mutants.json").read_text(encoding="utf-8"))
    tried = Counter(one["name"].partition(" ")[0] for one in kept.values())
    killed = Counter(one["name"].partition(" ")[0] for one in kept.values() if one["by"])
    rows = [(f"`{path}`", str(count), str(killed[path]), str(count - killed[path])) for path, count in tried.items()]
    rows.append(("all", str(tried.total()), str(killed.total()), str(tried.total() - killed.total())))
    return table(("file", "conditions flipped", "a test failed", "none of these tests failed"), rows)


# --- files ------------------------------------------------------------------------------------------------------------

PARTS: Mapping[str, Callable[[], str]] = {
    "task-moves": lambda: diagram("TASK_MOVES"), "execution-moves": lambda: diagram("EXECUTION_MOVES"),
    "settings": settings, "not-available": not_available, "callables": callables,
    "definition-keys": lambda: keys("Definition", "definition"), "step-keys": lambda: keys("Step", "step"),
    "breaker-keys": lambda: keys("CircuitBreaker", "circuit_breaker"),
    "retry-keys": lambda: keys("Retry", "retry"), "inner-keys": inner_keys, "routes": routes, "roles": roles,
    "metrics": metrics, "commands": commands,
    "chaos": chaos, "fuzz": fuzz, "mutants": mutants, "matrix": permission_matrix, "admin-matrix": admin_matrix,
}  # fmt: skip


def asyncapi() -> str:
    """The socket's protocol."""
    import json

    from django.conf import settings

    from apps.progress.protocol import asyncapi as document

    return json.dumps(document(str(settings.SPECTACULAR_SETTINGS["VERSION"])), indent=1, ensure_ascii=False) + "\n"


WHOLE: Mapping[str, Callable[[], str]] = {"progress.asyncapi.json": asyncapi}
"""Files that are generated as a whole."""


def generated() -> Iterator[tuple[Path, str, str]]:
    """(file, its text, its text as it should be) of each file with generated parts. Raises KeyError for others."""
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        fresh = _PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n{found[3]}", text)
        if "<!-- generated: " in text:
            yield path, text, fresh
    for name, make in WHOLE.items():
        path = DOCS / name
        yield path, path.read_text(encoding="utf-8") if path.exists() else "", make()


def main() -> int:
    """Rewrite, or with `--check` only compare."""
    parser = argparse.ArgumentParser(prog="python scripts/docs.py")
    parser.add_argument("--check", action="store_true", help="change nothing; end 1 where something would change")
    check = parser.parse_args().check
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory(prefix="platform-docs-") as directory:
        os.environ.update({"DJANGO_SETTINGS_MODULE": "orchestration.settings.test", "DATA_DIR": directory})
        import django

        django.setup()
        stale = [(path, fresh) for path, text, fresh in generated() if text != fresh]
    for path, fresh in stale:
        print(f"{path.relative_to(ROOT)} {'is out of date: run python scripts/docs.py' if check else 'rewritten'}")
        if not check:
            path.write_text(fresh, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
