"""Agents as a Django app."""

from django.apps import AppConfig


class AgentsConfig(AppConfig):
    """Registered outside programs that claim tasks over HTTP."""

    name = "apps.agents"
    label = "agents"

    def ready(self) -> None:
        """Agents are shared as workflows are, and tasks directed to them; their credential is described to OpenAPI."""
        from apps.agents import selectors
        from apps.agents.api import openapi  # noqa: F401
        from apps.agents.models import SHARING
        from apps.workflows.selectors import grants
        from apps.workflows.services import adhoc

        grants.also(SHARING)
        adhoc.asks(selectors.may_direct)
