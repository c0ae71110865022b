"""Requests that were already carried out, by the key their sender gave them."""

from django.conf import settings
from django.db import models


class IdempotencyKey(models.Model):
    """One request of one caller. `digest` is SHA-256 over method, path and body; the same key with another is 422."""

    pk = models.CompositePrimaryKey("user_id", "key")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=200)
    digest = models.CharField(max_length=64)
    answer = models.JSONField()
    created_at = models.DateTimeField(db_index=True)

    objects = models.Manager["IdempotencyKey"]()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.key
