"""What starts executions without a caller: schedules, and webhooks from outside."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from uuid6 import uuid7

from apps.workflows.models.gate import GatedQuerySet
from apps.workflows.models.workflows import Workflow


class Schedule(models.Model):
    """Starts a workflow at the times of a cron expression, as the account `owner`.

    `next_at` is the next such time (null while it is paused); whoever holds the row's lock when it has come starts the
    execution and moves it on, in one transaction. `last_at` is the last moment dealt with, `last_outcome` what came of
    it, and `last_error` why it could not be started.
    """

    class CatchUp(models.TextChoices):
        """What becomes of the times that passed while nobody was there."""

        NONE = "none"
        LAST = "last"
        ALL = "all"

    class Overlap(models.TextChoices):
        """What happens when its last execution still runs."""

        ALLOW = "allow"
        SKIP = "skip"
        CANCEL_RUNNING = "cancel_running"

    class Outcome(models.TextChoices):
        """What became of the moment `last_at`: `passed_over` by `overlap`, `missed` where `catch_up` drops it."""

        STARTED = "started"
        PASSED_OVER = "passed_over"
        MISSED = "missed"
        FAILED = "failed"

    id: uuid.UUID = models.UUIDField(primary_key=True, default=uuid7, editable=False)  # type: ignore[assignment]
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="schedules")
    name = models.CharField(max_length=100)
    cron = models.CharField(max_length=200)
    timezone = models.CharField(max_length=64, default="UTC")
    inputs = models.JSONField(default=dict)
    priority = models.SmallIntegerField(null=True)
    catch_up = models.CharField(max_length=4, choices=CatchUp.choices, default=CatchUp.LAST)
    overlap = models.CharField(max_length=14, choices=Overlap.choices, default=Overlap.SKIP)
    paused = models.BooleanField(default=False)
    next_at = models.DateTimeField(null=True)
    last_at = models.DateTimeField(null=True)
    last_outcome = models.CharField(max_length=11, choices=Outcome.choices, blank=True)
    last_error = models.CharField(max_length=1000, blank=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = GatedQuerySet["Schedule"].as_manager()

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["workflow", "name"], name="schedule_name_once")]
        indexes = [models.Index(fields=["next_at"], condition=Q(next_at__isnull=False), name="schedule_due")]

    def __str__(self) -> str:
        return self.name


class Webhook(models.Model):
    """A door for signed requests from outside; each starts its workflow once, as the account `owner`.

    `inputs` maps inputs of the workflow to templates over the request's `payload`.
    """

    id: uuid.UUID = models.UUIDField(primary_key=True, default=uuid7, editable=False)  # type: ignore[assignment]
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="webhooks")
    name = models.CharField(max_length=100)
    secret = models.TextField()  # sealed
    inputs = models.JSONField(default=dict)
    paused = models.BooleanField(default=False)
    last_at = models.DateTimeField(null=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = GatedQuerySet["Webhook"].as_manager()

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["workflow", "name"], name="webhook_name_once")]

    def __str__(self) -> str:
        return self.name
