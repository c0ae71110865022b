"""Agents as they are registered, with the grants on single ones. What they hold stands in the rows of the engine."""

import uuid

from django.conf import settings
from django.db import models
from guardian.models import GroupObjectPermissionBase, UserObjectPermissionBase
from uuid6 import uuid7

from apps.accounts.models import ApiToken, RoleObjectPermission
from apps.accounts.permissions import Permission
from apps.workflows.models.gate import SharedQuerySet, Sharing
from apps.workflows.models.performers import OF_AGENT

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}"
MOST_SLOTS = 1000


class AgentQuerySet(SharedQuerySet["Agent"]):
    """Agents a caller may see."""

    @classmethod
    def sharing(cls) -> Sharing:
        """As agents are."""
        return SHARING


class Agent(models.Model):
    """An outside program that may claim tasks: what it says of itself, and its present credential.

    `name` never changes: leases, the journal and the presence of performers name it (`owner`).
    """

    id: uuid.UUID = models.UUIDField(primary_key=True, default=uuid7, editable=False)  # type: ignore[assignment]
    name = models.CharField(max_length=80, unique=True)
    labels = models.JSONField(default=dict)  # name → text, number, true or false
    slots = models.PositiveIntegerField(default=1)
    disabled = models.BooleanField(default=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="agents")
    token = models.OneToOneField(ApiToken, null=True, on_delete=models.SET_NULL, related_name="agent")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = AgentQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        permissions = [
            ("agent:read", "Read this agent"),
            ("agent:update", "Change this agent, and rotate its credential"),
            ("agent:execute", "Direct tasks to this agent"),
            ("agent:delete", "Remove this agent"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def performer(self) -> str:
        """What its leases name as their owner."""
        return f"{OF_AGENT}{self.name}"


class AgentUserPermission(UserObjectPermissionBase):
    """A permission of one person on one agent."""

    content_object = models.ForeignKey(Agent, on_delete=models.CASCADE)


class AgentGroupPermission(GroupObjectPermissionBase):
    """A permission of one group on one agent."""

    content_object = models.ForeignKey(Agent, on_delete=models.CASCADE)


class AgentRolePermission(RoleObjectPermission):
    """A permission of all who have one role on one agent."""

    content_object = models.ForeignKey(Agent, on_delete=models.CASCADE)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["role", "permission", "content_object"], name="agent_role_grant_once")
        ]


SHARING = Sharing(
    noun="agent",
    model=Agent,
    people=AgentUserPermission,
    groups=AgentGroupPermission,
    roles=AgentRolePermission,
    verbs=("read", "update", "execute", "delete"),
    permissions=frozenset(
        {Permission.AGENT_READ, Permission.AGENT_UPDATE, Permission.AGENT_EXECUTE, Permission.AGENT_DELETE}
    ),
    read=Permission.AGENT_READ,
    key="pk",
)
