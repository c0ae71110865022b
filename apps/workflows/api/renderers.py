"""A workflow as a file."""

from collections.abc import Mapping
from typing import Any

from rest_framework.renderers import BaseRenderer

from apps.workflows.definition.dump import dump


class DefinitionRenderer(BaseRenderer):
    """`application/yaml` (RFC 9512): the definition of a workflow that is answered, as it can be sent again."""

    media_type = "application/yaml"
    format = "yaml"
    charset = "utf-8"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,  # noqa: ARG002
        renderer_context: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> bytes:
        """The definition as bytes."""
        return dump(data["definition"]).encode()
