"""Rows of monitoring: silences, and which alerts were told to somebody."""

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from uuid6 import uuid7


class Silence(models.Model):
    """Alerts whose labels fit every one of `matchers` are told to nobody from `starts_at` to `ends_at`."""

    id: uuid.UUID = models.UUIDField(primary_key=True, default=uuid7, editable=False)  # type: ignore[assignment]
    matchers = models.JSONField()  # [{name, value, is_regex, is_equal}]
    comment = models.CharField(max_length=1000)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()

    objects: ClassVar[models.Manager["Silence"]] = models.Manager()

    class Meta:
        default_permissions = ()
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["ends_at"], name="silence_end")]

    def __str__(self) -> str:
        return f"{self.id} until {self.ends_at}"


class Notice(models.Model):
    """An alert that fires, or has just ended, by its fingerprint; `told` is the last state that somebody was told.

    Any server process that sees it fire moves `seen_at` on; when none did for a while, it has ended. Whoever moves
    `tried_at` on tells it.
    """

    fingerprint = models.CharField(max_length=16, primary_key=True)
    name = models.CharField(max_length=100)
    labels = models.JSONField()
    annotations = models.JSONField()
    value = models.FloatField()
    starts_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True)
    told = models.CharField(max_length=8, blank=True, choices=[("firing", "firing"), ("resolved", "resolved")])
    tried_at = models.DateTimeField(null=True)

    objects: ClassVar[models.Manager["Notice"]] = models.Manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name} {self.fingerprint}"
