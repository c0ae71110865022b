"""The GraphQL schema of a Dagger engine, read off the client that the installed SDK was generated with.

The SDK ships no schema, but its client is generated from one: every field, argument, type and default stands in it.
So the schema of the stand-in engine can never be another than the installed SDK's, and a field that a new SDK no
longer has is gone here as well. What cannot be read off is left out: descriptions, directives, and which types
implement an interface besides `Node`.
"""

import ast
import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from graphql import GraphQLSchema, build_schema

SCALARS = {"str": "String", "int": "Int", "bool": "Boolean", "float": "Float"}


@functools.cache
def schema() -> GraphQLSchema:
    """The schema of the installed SDK."""
    return build_schema(sdl())


@functools.cache
def sdl() -> str:
    """The same as text."""
    return "\n\n".join(_Client(ast.parse(_source())).definitions()) + "\n"


def _source() -> str:
    # Found without importing: that alone takes two seconds.
    spec = importlib.util.find_spec("dagger")
    if spec is None or spec.origin is None:
        raise LookupError("the Dagger SDK is not installed: pip install -r requirements.txt")
    return (Path(spec.origin).parent / "client" / "gen.py").read_text()


class _Client:
    """The classes of the generated client by what they are in GraphQL."""

    def __init__(self, module: ast.Module) -> None:
        classes = [node for node in module.body if isinstance(node, ast.ClassDef)]
        base = {node.name: _base(node) for node in classes}
        of = lambda kind: [node for node in classes if base[node.name] == kind]  # noqa: E731
        self.scalars, self.enums, self.inputs = of("Scalar"), of("Enum"), of("Input")
        self.objects = [*(node for node in of("Type") if not node.name.startswith("_")), *of("Root")]
        self.interfaces = [node.name for node in of("Protocol")]
        self.object_names = {node.name for node in self.objects} | set(self.interfaces)
        self.input_names = {node.name for node in self.inputs}

    def definitions(self) -> Iterator[str]:
        for node in self.scalars:
            yield f"scalar {node.name}"
        for node in self.enums:
            yield f"enum {node.name} {{ {' '.join(_members(node))} }}"
        yield "interface Node { id: ID! }"
        for name in self.interfaces:
            if name != "Node":
                yield f"interface {name} {{ id: ID! }}"
        for node in self.inputs:
            yield f"input {node.name} {{\n{_lines(self._input_fields(node))}\n}}"
        for node in self.objects:
            fields = dict(self._fields(node))
            fields.setdefault("id", "id: ID!")
            implements = "" if node.name == "Query" else " implements Node"
            yield f"type {node.name}{implements} {{\n{_lines(fields.values())}\n}}"

    def _input_fields(self, node: ast.ClassDef) -> Iterator[str]:
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                optional = statement.value is not None
                kind = self._type(statement.annotation, argument=True, optional=optional)
                yield f"{_camel(statement.target.id)}: {kind}"

    def _fields(self, node: ast.ClassDef) -> Iterator[tuple[str, str]]:
        for method in node.body:
            if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and (found := _selected(method)):
                name, arguments = found
                returns = "ID!" if name in ("sync", "id") else self._type(method.returns, argument=False)
                if isinstance(method.returns, ast.Name) and method.returns.id == "Self":
                    returns = "ID!" if name == "sync" else f"{node.name}!"
                told = ", ".join(self._argument(method, python, graphql) for python, graphql in arguments)
                yield name, f"{name}({told}): {returns}" if told else f"{name}: {returns}"

    def _argument(self, method: ast.FunctionDef | ast.AsyncFunctionDef, python: str, graphql: str) -> str:
        given = method.args
        defaults = dict(zip([one.arg for one in given.args[::-1]], given.defaults[::-1], strict=False))
        defaults |= {one.arg: value for one, value in zip(given.kwonlyargs, given.kw_defaults, strict=True) if value}
        annotation = next(one.annotation for one in [*given.args, *given.kwonlyargs] if one.arg == python)
        return f"{graphql}: {self._type(annotation, argument=True, optional=python in defaults)}"

    def _type(self, annotation: ast.expr | None, *, argument: bool, optional: bool = False) -> str:
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            annotation = ast.parse(annotation.value, mode="eval").body
        if isinstance(annotation, ast.BinOp):  # X | None
            return self._type(annotation.left, argument=argument, optional=True)
        mark = "" if optional else "!"
        if isinstance(annotation, ast.Subscript):
            return f"[{self._type(annotation.slice, argument=argument)}]{mark}"
        if annotation is None or (isinstance(annotation, ast.Constant) and annotation.value is None):
            return "Void"
        name = ast.unparse(annotation)
        if argument and (name in self.object_names or name in ("Type", "Self")):
            return f"ID{mark}"
        return f"{SCALARS.get(name, name)}{mark}"


def _selected(method: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[str, list[tuple[str, str]]] | None:
    """The field that a method selects, and its arguments as (in Python, in GraphQL)."""
    field, arguments = "", []
    for node in ast.walk(method):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ("_select", "root_select") and isinstance(node.args[0], ast.Constant):
            field = node.args[0].value
        elif called == "execute_sync" and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
            field = node.args[1].value
        elif called == "execute_sync":
            field = field or "sync"
        elif called == "Arg" and isinstance(node.args[0], ast.Constant):
            names = [one.id for one in ast.walk(node.args[1]) if isinstance(one, ast.Name)]
            arguments.append((names[0], node.args[0].value))
    return (field, arguments) if field else None


def _base(node: ast.ClassDef) -> str:
    return node.bases[0].id if node.bases and isinstance(node.bases[0], ast.Name) else ""


def _members(node: ast.ClassDef) -> list[str]:
    found = [one for one in node.body if isinstance(one, ast.Assign)]
    return list(dict.fromkeys(one.value.value for one in found if isinstance(one.value, ast.Constant)))


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


def _lines(fields: object) -> str:
    return "\n".join(f"  {field}" for field in fields)  # type: ignore[attr-defined]
