"""The rows of the vault; `apps.vault.secrets` and `apps.vault.blobs` alone write them."""

import uuid

from django.conf import settings
from django.db import models
from uuid6 import uuid7


class Secret(models.Model):
    """A value that steps are given by name (`${secrets.NAME}`), and that nothing shows.

    It may be used by its owner, by the accounts in `users`, and by accounts that hold one of `roles` (names).
    """

    id: uuid.UUID = models.UUIDField(primary_key=True, default=uuid7, editable=False)  # type: ignore[assignment]
    name = models.CharField(max_length=100, unique=True)
    description = models.CharField(max_length=500, blank=True)
    sealed = models.TextField()  # its name and value, sealed together
    roles = models.JSONField(default=list)
    users = models.ManyToManyField(settings.AUTH_USER_MODEL, related_name="+")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    value_at = models.DateTimeField()  # when it was given its present value

    objects = models.Manager["Secret"]()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name


class Blob(models.Model):
    """Bytes that are kept once, by their SHA-256; `touched_at` is when they were brought last."""

    digest = models.CharField(primary_key=True, max_length=64)
    size = models.BigIntegerField()
    touched_at = models.DateTimeField()

    objects = models.Manager["Blob"]()

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["touched_at"], name="blob_touched")]

    def __str__(self) -> str:
        return self.digest
