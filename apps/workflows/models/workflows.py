"""Workflow and its immutable versions, with the grants on single workflows."""

import uuid
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from guardian.models import GroupObjectPermissionBase, UserObjectPermissionBase
from uuid6 import uuid7

from apps.accounts.models import RoleObjectPermission
from apps.accounts.permissions import OF_WORKFLOWS, Permission
from apps.workflows.models import lookups  # noqa: F401 (registers itself)
from apps.workflows.models.gate import GatedQuerySet, Sharing


class WorkflowQuerySet(GatedQuerySet["Workflow"]):
    """Workflows a caller may see."""

    path = ""

    def tagged(self, tag: str) -> Self:
        """Those with just this tag."""
        return self.filter(tags__has_element=tag)

    def named_like(self, text: str) -> Self:
        """Those whose name or id holds this text, whatever its case."""
        return self.filter(Q(name__icontains=text) | Q(slug__icontains=text))


class Workflow(models.Model):
    """A named thing a person edits. In URLs and metrics its id is the slug."""

    class Kind(models.TextChoices):
        """A tracker's progress is reported from outside; the versions of `tasks` are somebody's ad-hoc tasks."""

        WORKFLOW = "workflow"
        TRACKER = "tracker"
        TASKS = "tasks"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = models.SlugField(max_length=100, unique=True, db_index=False)
    name = models.CharField(max_length=200)
    kind = models.CharField(max_length=8, choices=Kind.choices, default=Kind.WORKFLOW)
    description = models.TextField(blank=True)
    tags = models.JSONField(default=list)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="workflows")
    # The number of the version that new executions are pinned to; 0 only inside the transaction that makes the first.
    version_number = models.PositiveIntegerField(default=0)
    # The directory of workflow files it was applied from; empty where people keep it by hand.
    source = models.CharField(max_length=1000, blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = WorkflowQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        permissions = [
            ("workflow:read", "Read this workflow and its executions"),
            ("workflow:update", "Change this workflow"),
            ("workflow:delete", "Delete this workflow"),
            ("workflow:execute", "Execute this workflow"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=["workflow", "tracker", "tasks"]), name="workflow_kind_is_known"
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class WorkflowVersion(models.Model):
    """An immutable definition, numbered from 1 within its workflow. Nothing ever updates a row of this table."""

    id: uuid.UUID = models.UUIDField(primary_key=True, default=uuid7, editable=False)  # type: ignore[assignment]
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    definition = models.JSONField()
    checksum = models.CharField(max_length=64)  # SHA-256 of the canonical JSON, hexadecimal
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField()

    objects = GatedQuerySet["WorkflowVersion"].as_manager()

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["workflow", "number"], name="version_number_once")]

    def __str__(self) -> str:
        return f"{self.workflow_id} v{self.number}"


class WorkflowUserPermission(UserObjectPermissionBase):
    """A permission of one person on one workflow."""

    content_object = models.ForeignKey(Workflow, on_delete=models.CASCADE)


class WorkflowGroupPermission(GroupObjectPermissionBase):
    """A permission of one group on one workflow."""

    content_object = models.ForeignKey(Workflow, on_delete=models.CASCADE)


class WorkflowRolePermission(RoleObjectPermission):
    """A permission of all who have one role on one workflow."""

    content_object = models.ForeignKey(Workflow, on_delete=models.CASCADE)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["role", "permission", "content_object"], name="role_grant_is_given_once")
        ]


SHARING = Sharing(
    noun="workflow",
    model=Workflow,
    people=WorkflowUserPermission,
    groups=WorkflowGroupPermission,
    roles=WorkflowRolePermission,
    verbs=("read", "update", "execute", "delete"),
    permissions=OF_WORKFLOWS,
    read=Permission.WORKFLOW_READ,
    key="slug",
    narrowed="slug",
)
