"""Presence: who claims tasks, and when each was last heard of; and the lanes they claim from."""

from django.db import models

_KINDS = [("worker", "worker"), ("agent", "agent")]
OF_AGENT = "agent:"  # and its name: what the leases of an agent name as their owner; no worker is called so


class Performer(models.Model):
    """A worker process of ours, or a registered agent. `name` is what leases name as their owner."""

    name = models.CharField(max_length=100, primary_key=True)
    kind = models.CharField(max_length=6, choices=_KINDS)
    slots = models.PositiveIntegerField()
    load = models.PositiveIntegerField(default=0)  # tasks it holds
    labels = models.JSONField(default=dict)  # name → text or number
    queues = models.JSONField(null=True)  # those it serves; null: all
    draining = models.BooleanField(default=False)
    lost = models.BooleanField(default=False)  # was silent for a whole lease, and is counted as lost
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()

    objects = models.Manager["Performer"]()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name


class Lane(models.Model):
    """A queue together with what its steps require of a performer: what a claim chooses by.

    The lane of a queue without requirements has the queue's name as its key; steps for agents have lanes of their own.
    Lanes are made when a definition that names them is saved; pausing a queue pauses all of its lanes.
    """

    key = models.CharField(max_length=64, primary_key=True)
    queue = models.CharField(max_length=64, db_index=True)
    kind = models.CharField(max_length=6, choices=_KINDS, default="worker", db_default="worker")  # of its performers
    requires = models.JSONField(default=list)
    prefers = models.JSONField(default=list)
    paused = models.BooleanField(default=False)

    objects = models.Manager["Lane"]()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.key
