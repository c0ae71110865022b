"""Definitions as they are sent: JSON, or YAML."""

from collections.abc import Mapping
from typing import IO, Any

from apps.core.api.parsers import RawTextParser
from apps.workflows.definition.loader import load


class JSONDefinitionParser(RawTextParser):
    """`application/json`."""

    media_type = "application/json"  # type: ignore[misc]  # the stub has an instance variable

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """The definition as data; raises `Invalid` or `TooLarge`."""
        return load(super().parse(stream, media_type, parser_context), "json")


class YAMLDefinitionParser(RawTextParser):
    """`application/yaml` (RFC 9512)."""

    media_type = "application/yaml"  # type: ignore[misc]  # the stub has an instance variable

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """The definition as data; raises `Invalid` or `TooLarge`."""
        return load(super().parse(stream, media_type, parser_context), "yaml")


class OldYAMLDefinitionParser(YAMLDefinitionParser):
    """`application/x-yaml`, as many tools still say."""

    media_type = "application/x-yaml"  # type: ignore[misc]  # the stub has an instance variable


class TextYAMLDefinitionParser(YAMLDefinitionParser):
    """`text/yaml`, as others do."""

    media_type = "text/yaml"  # type: ignore[misc]  # the stub has an instance variable


DEFINITION_PARSERS = [JSONDefinitionParser, YAMLDefinitionParser, OldYAMLDefinitionParser, TextYAMLDefinitionParser]
