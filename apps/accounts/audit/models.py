"""Rows of the audit log: entries that are only ever added, and the head of their chain."""

from typing import Any, ClassVar, NoReturn

from django.db import models

APPEND_ONLY = "the audit log is append-only"


class AppendOnly(models.QuerySet["AuditEntry"]):
    """Rows that are added and read, nothing else."""

    def update(self, **_: Any) -> NoReturn:
        """Refused."""
        raise TypeError(APPEND_ONLY)

    def delete(self) -> NoReturn:
        """Refused."""
        raise TypeError(APPEND_ONLY)

    def bulk_update(self, *_: Any, **__: Any) -> NoReturn:
        """Refused."""
        raise TypeError(APPEND_ONLY)


class AuditEntry(models.Model):
    """One thing that somebody did, or tried to do.

    Who and what are kept as text and not as foreign keys: an entry outlives whatever it tells of.
    """

    class Kind(models.TextChoices):
        """What acted: an account, an API token of one, a command of the operator's, or the platform itself."""

        USER = "user"
        API_TOKEN = "api_token"  # noqa: S105  # a word
        COMMAND = "command"
        SYSTEM = "system"

    class Outcome(models.TextChoices):
        """`denied` for want of a right, `failed` for another reason."""

        DONE = "done"
        DENIED = "denied"
        FAILED = "failed"

    seq = models.PositiveBigIntegerField(primary_key=True)  # 1..n without a gap
    at = models.DateTimeField(db_index=True)
    actor_kind = models.CharField(max_length=9, choices=Kind.choices)
    actor_id = models.CharField(max_length=64, blank=True)
    actor_name = models.CharField(max_length=200, blank=True)
    address = models.CharField(max_length=45, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    action = models.CharField(max_length=100)
    object_type = models.CharField(max_length=50, blank=True)
    object_id = models.CharField(max_length=100, blank=True)
    object_name = models.CharField(max_length=200, blank=True)
    outcome = models.CharField(max_length=6, choices=Outcome.choices)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    previous = models.CharField(max_length=64)  # the hash of the entry before; zeros for the first
    hash = models.CharField(max_length=64)  # SHA-256, hexadecimal

    objects: ClassVar[models.Manager["AuditEntry"]] = AppendOnly.as_manager()

    class Meta:
        app_label = "accounts"
        default_permissions = ()
        ordering: ClassVar = ["-seq"]
        verbose_name_plural = "audit entries"
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["actor_name", "seq"], name="audit_by_actor"),
            models.Index(fields=["action", "seq"], name="audit_by_action"),
            models.Index(fields=["object_id", "seq"], name="audit_by_object"),
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.action}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert it. Raises `TypeError` for a row that is there already."""
        if not self._state.adding:
            raise TypeError(APPEND_ONLY)
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *_: Any, **__: Any) -> NoReturn:
        """Refused."""
        raise TypeError(APPEND_ONLY)


class AuditHead(models.Model):
    """The last entry's number and hash. Its one row's lock puts writers in a line, so that the chain never forks."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    seq = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64)

    class Meta:
        app_label = "accounts"
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.seq)
