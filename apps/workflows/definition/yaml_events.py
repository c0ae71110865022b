"""Composes YAML 1.2 (core schema) data from the events of libyaml, within bounds. It constructs no other object."""

import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from apps.core.errors import Invalid, Problem, TooLarge

ALIASES = 1000
ALIASED_CHARACTERS = 2**20  # what all aliases together may add

_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_PREFIX = "tag:yaml.org,2002:"


@dataclass(slots=True)
class _Open:
    """A list or mapping that is being read. `size` is what an alias to it would add."""

    value: Any
    anchor: str | None
    key: str | None = None
    size: int = 1


@dataclass(slots=True)
class _Composer:
    depth: int
    open: list[_Open] = field(default_factory=list)
    anchors: dict[str, tuple[Any, int]] = field(default_factory=dict)
    documents: int = 0
    aliases: int = 0
    aliased: int = 0
    root: Any = None

    def read(self, event: Any) -> None:
        match event:
            case yaml.ScalarEvent():
                self.scalar(event)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self.start(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                closed = self.open.pop()
                self.add(closed.value, closed.size, closed.anchor)
            case yaml.AliasEvent():
                self.alias(event)
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    refuse("there is a second document after `---`", event.start_mark)

    def awaits_key(self) -> bool:
        return bool(self.open) and isinstance(self.open[-1].value, dict) and self.open[-1].key is None

    def start(self, event: Any) -> None:
        if self.awaits_key():
            refuse("a key must be text, not a list or mapping", event.start_mark)
        kind = "map" if isinstance(event, yaml.MappingStartEvent) else "seq"
        if event.tag not in (None, "!", _PREFIX + kind):
            refuse(f"the tag {event.tag[:100]} is not allowed", event.start_mark, code="tag")
        if len(self.open) >= self.depth:
            raise TooLarge(f"lists and mappings may be nested {self.depth} deep", code="too_deep")
        self.open.append(_Open({} if kind == "map" else [], event.anchor))

    def scalar(self, event: Any) -> None:
        if self.awaits_key():
            self.key(event)
            return
        value = _scalar(event)
        self.add(value, 1 + len(event.value), event.anchor)

    def key(self, event: Any) -> None:
        if event.tag not in (None, "!", _PREFIX + "str"):
            refuse(f"the tag {event.tag[:100]} is not allowed on a key", event.start_mark, code="tag")
        parent = self.open[-1]
        if event.value in parent.value:
            refuse(f"the key {event.value[:100]!r} is given twice", event.start_mark, code="duplicate_key")
        parent.key = event.value
        parent.size += 1 + len(event.value)
        if event.anchor:
            self.anchors[event.anchor] = (event.value, 1 + len(event.value))

    def alias(self, event: Any) -> None:
        if self.awaits_key():
            refuse("a key cannot be an alias", event.start_mark)
        if event.anchor not in self.anchors:
            refuse(f"there is no anchor {event.anchor[:100]!r} before this alias", event.start_mark)
        value, size = self.anchors[event.anchor]
        self.aliases += 1
        self.aliased += size
        if self.aliases > ALIASES or self.aliased > ALIASED_CHARACTERS:
            raise TooLarge(
                f"aliases may be used {ALIASES:,} times and add {ALIASED_CHARACTERS:,} characters", code="aliases"
            )
        self.add(value, size, None)

    def add(self, value: Any, size: int, anchor: str | None) -> None:
        if anchor:
            self.anchors[anchor] = (value, size)
        if not self.open:
            self.root = value
            return
        parent = self.open[-1]
        parent.size += size
        if parent.key is None:
            parent.value.append(value)
        else:
            parent.value[parent.key] = value
            parent.key = None


def compose(source: str, *, depth: int) -> Any:
    """The data of the one document in `source`. Raises `Invalid` with line and column, and `TooLarge`."""
    composer = _Composer(depth)
    try:
        for event in yaml.parse(source, Loader=_LOADER):
            composer.read(event)
    except yaml.MarkedYAMLError as error:
        refuse(str(error.problem or error.context), error.problem_mark or error.context_mark)
    except yaml.reader.ReaderError as error:
        line = source.count("\n", 0, error.position) + 1
        refuse(f"{error.reason} (near line {line})", None)
    return composer.root


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def refuse(message: str, mark: Any, *, code: str = "syntax") -> NoReturn:
    """Raises `Invalid` at the mark of a YAML event."""
    where = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
    detail = f"this YAML cannot be read: {message}{where}"
    raise Invalid(detail, code=code, problems=[Problem(pointer="", code=code, message=detail)])


def _scalar(event: Any) -> Any:
    text: str = event.value
    tag = event.tag
    if tag not in (None, "!"):
        return _tagged(text, tag, event.start_mark)
    if tag == "!" or not event.implicit[0]:
        return text
    return _plain(text, event.start_mark)


def _tagged(text: str, tag: str, mark: Any) -> Any:
    name = tag.removeprefix(_PREFIX)
    if tag == name or name not in ("str", "int", "float", "bool", "null"):
        refuse(f"the tag {tag[:100]} is not allowed", mark, code="tag")
    if name == "str":
        return text
    value = _plain(text, mark)
    expected: dict[str, Any] = {"int": int, "float": float, "bool": bool, "null": type(None)}
    if name == "float" and type(value) is int:
        return float(value)
    if type(value) is not expected[name]:
        refuse(f"{text[:100]!r} is no {name}", mark, code="tag")
    return value


def _plain(text: str, mark: Any) -> Any:
    """The value of a scalar without quotes, by the core schema of YAML 1.2 (section 10.3.2)."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        if len(text) > 24 or not -(2**63) <= int(text, base) < 2**63:
            refuse("a whole number must fit in 64 bits", mark, code="bad_number")
        return int(text, base)
    if _NOT_FINITE.fullmatch(text):
        refuse("NaN and infinity are not allowed", mark, code="bad_number")
    if _FLOAT.fullmatch(text):
        number = float(text)
        if number in (float("inf"), float("-inf")):
            refuse("this number is too large", mark, code="bad_number")
        return number
    return text
