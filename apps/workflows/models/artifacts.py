"""Artifacts: files that steps left behind. The bytes are the vault's."""

import uuid

from django.db import models
from uuid6 import uuid7

from apps.vault.models import Blob
from apps.workflows.models.executions import Execution, Task
from apps.workflows.models.gate import GatedQuerySet


class ArtifactQuerySet(GatedQuerySet["Artifact"]):
    """Artifacts a caller may see."""

    path = "execution__workflow"


class Artifact(models.Model):
    """A file that one attempt of a task left, by name; a large output that was spilled is one too."""

    id: uuid.UUID = models.UUIDField(primary_key=True, default=uuid7, editable=False)  # type: ignore[assignment]
    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="artifacts", db_index=False)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="artifacts")
    fence = models.BigIntegerField()
    name = models.CharField(max_length=255)
    content_type = models.CharField(max_length=100)
    size = models.BigIntegerField()  # bytes
    spilled = models.BooleanField(default=False)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()

    objects = ArtifactQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["execution", "task", "fence", "name"], name="artifact_name_once"),
        ]

    def __str__(self) -> str:
        return self.name
