"""Presence: who claims tasks, and when each was last heard of."""

from django.db import models


class Performer(models.Model):
    """A worker process of ours, or a registered agent. `name` is what leases name as their owner."""

    name = models.CharField(max_length=100, primary_key=True)
    kind = models.CharField(max_length=6, choices=[("worker", "worker"), ("agent", "agent")])
    slots = models.PositiveIntegerField()
    load = models.PositiveIntegerField(default=0)  # tasks it holds
    draining = models.BooleanField(default=False)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()

    objects = models.Manager["Performer"]()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name
