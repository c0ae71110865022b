"""Who is told how executions end: receivers, and what is still to be delivered to them."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from uuid6 import uuid7

from apps.workflows.models.executions import Execution


class Receiver(models.Model):
    """Where notifications go, by the name that definitions use (`notify: [{webhook: NAME}]`)."""

    class Kind(models.TextChoices):
        """How it is told: a signed request, a request in Slack's format, or a mail."""

        WEBHOOK = "webhook"
        SLACK = "slack"
        MAIL = "mail"

    id: uuid.UUID = models.UUIDField(primary_key=True, default=uuid7, editable=False)  # type: ignore[assignment]
    name = models.CharField(max_length=64, unique=True)
    kind = models.CharField(max_length=7, choices=Kind.choices)
    target = models.TextField()  # a URL or an address; sealed: Slack's URLs hold a secret
    secret = models.TextField(blank=True)  # sealed; signs what a webhook is sent
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = models.Manager["Receiver"]()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name


class Notification(models.Model):
    """The end of one execution, to be told to one receiver, at least once.

    Written in the transaction in which the execution ends; `next_at` is when it is tried next, null when it was
    delivered or given up. `attempts` rises with every claim and is the fencing number of it: whoever records an
    outcome names the claim that it belongs to.
    """

    id: uuid.UUID = models.UUIDField(primary_key=True, default=uuid7, editable=False)  # type: ignore[assignment]
    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="notifications")
    receiver_name = models.CharField(max_length=64)
    attempts = models.PositiveIntegerField(default=0)
    next_at = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=1000, blank=True)
    created_at = models.DateTimeField()

    objects = models.Manager["Notification"]()

    class Meta:
        default_permissions = ()
        indexes = [
            models.Index(fields=["next_at"], condition=Q(next_at__isnull=False), name="notification_due"),
            models.Index(fields=["receiver_name", "-id"], name="notification_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.execution_id} → {self.receiver_name}"
