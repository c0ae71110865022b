"""What executions share: rate limits, and results that are used again."""

from django.db import models

from apps.workflows.models.workflows import Workflow


class RateLimit(models.Model):
    """A token bucket, shared by name, in the form of one time (GCRA): when the next start conforms.

    `free_at` is the theoretical arrival time of the Generic Cell Rate Algorithm (ITU-T I.371, Annex A).
    """

    name = models.CharField(max_length=64, primary_key=True)
    free_at = models.DateTimeField()

    objects = models.Manager["RateLimit"]()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name


class CachedResult(models.Model):
    """The outputs of a step, to be used again. `digest` is SHA-256 over the step as it is defined and its key."""

    pk = models.CompositePrimaryKey("workflow_id", "digest")
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="+", db_index=False)
    digest = models.CharField(max_length=64)
    execution_id = models.UUIDField()  # which one left it
    outputs = models.JSONField()
    expires_at = models.DateTimeField(db_index=True)

    objects = models.Manager["CachedResult"]()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.digest
