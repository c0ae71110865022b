"""How the OpenAPI document describes the credential of an agent."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension


class AgentScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """`Authorization: Bearer aoa_…`."""

    target_class = "apps.agents.api.authentication.AgentAuthentication"
    name = "agent"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:  # noqa: ARG002
        """The security scheme of OpenAPI."""
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "The credential that registering the agent answered.",
        }
