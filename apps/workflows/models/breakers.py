"""Circuit breakers, the calls not yet counted into them, and how they moved."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from apps.workflows.engine.breaker import Policy, State

_STATES = [(state.value, state.value) for state in State]
_DEFAULT = Policy()


def _within(least: float, most: float) -> list[MinValueValidator | MaxValueValidator]:
    return [MinValueValidator(least), MaxValueValidator(most)]


class CircuitBreaker(models.Model):
    """A breaker that steps share by name, over all workflows and all processes.

    `fixed` thresholds are an administrator's: definitions do not change them. Totals count what was folded in;
    `BreakerCall` holds the rest.
    """

    name = models.CharField(max_length=64, primary_key=True)
    state = models.CharField(max_length=9, choices=_STATES, default=State.CLOSED.value)
    since = models.DateTimeField()  # of its state
    reason = models.CharField(max_length=20, blank=True)  # of its last move
    probe_at = models.DateTimeField(null=True)
    probe = models.CharField(max_length=60, blank=True)  # TASK:FENCE
    half_since = models.DateTimeField(null=True)  # of the present half of the window
    calls = models.IntegerField(default=0)
    failures = models.IntegerField(default=0)
    calls_before = models.IntegerField(default=0)
    failures_before = models.IntegerField(default=0)

    open_failures = models.IntegerField(default=_DEFAULT.failures, validators=_within(1, 10_000))
    open_ratio = models.FloatField(default=_DEFAULT.ratio, validators=_within(0.001, 1))
    window_seconds = models.FloatField(default=_DEFAULT.window_seconds, validators=_within(1, 86_400))
    open_seconds = models.FloatField(default=_DEFAULT.open_seconds, validators=_within(1, 86_400))
    fixed = models.BooleanField(default=False)

    succeeded_total = models.BigIntegerField(default=0)
    failed_total = models.BigIntegerField(default=0)
    refused_total = models.BigIntegerField(default=0)
    opened_total = models.BigIntegerField(default=0)
    half_opened_total = models.BigIntegerField(default=0)
    closed_total = models.BigIntegerField(default=0)
    error_type = models.CharField(max_length=40, blank=True)  # of the last call that failed
    used_at = models.DateTimeField()  # the last call that was counted

    objects = models.Manager["CircuitBreaker"]()

    class Meta:
        default_permissions = ()
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=[state.value for state in State]), name="breaker_state_is_known"
            ),
            models.CheckConstraint(
                condition=(Q(state=State.HALF_OPEN.value) & ~Q(probe=""))
                | (~Q(state=State.HALF_OPEN.value) & Q(probe="")),
                name="breaker_half_open_has_one_probe",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class BreakerCall(models.Model):
    """Calls to be counted: inserted by the transaction that records them, so that no row is fought over."""

    breaker = models.CharField(max_length=64)
    result = models.CharField(max_length=7)  # success, failure, refused
    conclusive = models.BooleanField(default=False)
    attempt = models.CharField(max_length=60, blank=True)  # TASK:FENCE
    error_type = models.CharField(max_length=40, blank=True)
    count = models.IntegerField(default=1)

    objects = models.Manager["BreakerCall"]()

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["breaker", "id"], name="breaker_call")]

    def __str__(self) -> str:
        return f"{self.breaker} {self.result}"


class BreakerMove(models.Model):
    """One move of a breaker: append-only. `by` is the account that asked for it, empty where calls did."""

    breaker = models.CharField(max_length=64)
    at = models.DateTimeField(db_index=True)
    to_state = models.CharField(max_length=9, choices=_STATES)
    reason = models.CharField(max_length=20)
    by = models.CharField(max_length=150, blank=True)
    note = models.CharField(max_length=200, blank=True)

    objects = models.Manager["BreakerMove"]()

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["breaker", "-id"], name="breaker_moves")]

    def __str__(self) -> str:
        return f"{self.breaker} {self.to_state}"
