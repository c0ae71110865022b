"""Circuit breakers as operators ask for them: opened and reset by hand, their thresholds fixed."""

from collections.abc import Callable
from datetime import timedelta

from django.db import transaction

from apps.accounts.models import User
from apps.core.clock import database_now
from apps.core.errors import NotFound
from apps.workflows.engine import breaker as rules
from apps.workflows.engine.breaker import Counted, Policy, State
from apps.workflows.models import CircuitBreaker
from apps.workflows.services.ledger import breakers as ledger
from apps.workflows.services.ledger.breakers import sweep

__all__ = ["fix", "open_", "reset", "sweep"]


def open_(name: str, *, by: User, seconds: float | None = None, note: str = "") -> CircuitBreaker:
    """Let nothing through from now on: for `seconds`, after which a probe decides, or (None) until it is reset.

    What runs goes on. Raises `NotFound` where there is no such breaker.
    """

    def opened(_state: Counted, policy: Policy) -> Counted:
        if seconds is None:
            return rules.held_open(now, "manual")
        return rules.opened(policy, now, "manual", probe_at=now + timedelta(seconds=seconds))

    now = database_now()
    return _move(name, opened, by=by, note=note)


def reset(name: str, *, by: User, note: str = "") -> CircuitBreaker:
    """Close it, with nothing counted; the tasks it kept in line may be claimed at once. Raises `NotFound`."""
    now = database_now()
    return _move(name, lambda _state, _policy: rules.closed(now, "reset"), by=by, note=note)


def fix(name: str, policy: Policy | None) -> CircuitBreaker:
    """Fix its thresholds, whatever definitions say; with None give them back to the definitions. Raises `NotFound`."""
    with transaction.atomic():
        row = _locked(name)
        row.fixed = policy is not None
        if policy is not None:
            row.open_failures, row.open_ratio = policy.failures, policy.ratio
            row.window_seconds, row.open_seconds = policy.window_seconds, policy.open_seconds
        row.save()
    return row


def _move(name: str, to: Callable[[Counted, Policy], Counted], *, by: User, note: str) -> CircuitBreaker:
    with transaction.atomic():
        row = _locked(name)
        before = ledger.counted_of(row)
        state = to(before, ledger.policy_of(row))
        if before.state is not State.CLOSED or state.state is not State.CLOSED:
            ledger.put(row, state, [state], by=by.get_username(), note=note)
    return row


def _locked(name: str) -> CircuitBreaker:
    row = CircuitBreaker.objects.select_for_update().filter(name=name).first()
    if row is None:
        raise NotFound(f"there is no circuit breaker `{name[:64]}`: it is there once a saved definition names it")
    ledger.count_into(row, database_now())
    return row
