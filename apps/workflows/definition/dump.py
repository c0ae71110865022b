"""Turns a definition into YAML that `loader` reads as the same data."""

import re
from typing import Any

import yaml

MARK = "tag:yaml.org,2002:"


class _Dumper(yaml.CSafeDumper):
    """PyYAML's, which knows YAML 1.1: what is a number in YAML 1.2 alone is quoted as well."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Everything is written out."""
        return True


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    """Text of several lines as a block, where it can be one."""
    return dumper.represent_scalar(f"{MARK}str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)
_Dumper.add_implicit_resolver(f"{MARK}int", re.compile(r"0o[0-7]+\Z|[-+]?[0-9]+\Z"), list("-+0123456789"))
_Dumper.add_implicit_resolver(
    f"{MARK}float",
    re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"),
    list("-+.0123456789"),
)


def dump(definition: Any) -> str:
    """`definition` as YAML, its keys in their order."""
    text: str = yaml.dump(definition, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text
