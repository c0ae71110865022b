"""Admin pages of agents: to look at, search and filter; and grants on single ones, by the rules of the API."""

from typing import Any, ClassVar

from django.contrib import admin

from apps.accounts.permissions import Permission as P
from apps.agents.models import Agent, AgentGroupPermission, AgentRolePermission, AgentUserPermission
from apps.workflows.admin import ReadOnlyAdmin
from apps.workflows.admin_grants import GrantAdmin


@admin.register(Agent)
class AgentAdmin(ReadOnlyAdmin):
    """Agents. They are registered, changed and removed at `/agents`; performers tell whether they live."""

    permissions: ClassVar[dict[str, P]] = {"view": P.AGENT_READ}
    list_display = ("name", "labels", "slots", "disabled", "owner", "expires", "created_at")
    list_filter = ("disabled", "created_at")
    list_select_related = ("owner", "token")
    search_fields = ("name", "owner__username")
    ordering = ("name",)

    @admin.display(description="credential expires")
    def expires(self, agent: Agent) -> Any:
        """When its credential ends."""
        return agent.token.expires_at if agent.token else None


@admin.register(AgentUserPermission)
class AgentUserGrantAdmin(GrantAdmin):
    """What single people may do with single agents."""

    to = "user"
    list_display = ("content_object", "user", "permission")
    list_select_related = ("content_object", "user", "permission__content_type")
    search_fields = ("content_object__name", "user__username")
    autocomplete_fields = ("user",)


@admin.register(AgentGroupPermission)
class AgentGroupGrantAdmin(GrantAdmin):
    """What groups may do with single agents."""

    to = "group"
    list_display = ("content_object", "group", "permission")
    list_select_related = ("content_object", "group", "permission__content_type")
    search_fields = ("content_object__name", "group__name")


@admin.register(AgentRolePermission)
class AgentRoleGrantAdmin(GrantAdmin):
    """What all who have a role may do with single agents."""

    to = "role"
    list_display = ("content_object", "role", "permission")
    list_select_related = ("content_object", "role", "permission__content_type")
    search_fields = ("content_object__name", "role__name")
