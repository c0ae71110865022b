"""How a circuit breaker moves: closed, open, half-open with a single probe. Pure, as all of the engine.

Closed, calls go through and are counted. Open, none goes through until `probe_at`. Then one call, the probe, goes
through and decides: half-open until its result is known, closed where it succeeded, open anew where it failed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from apps.workflows.engine.graph import REGISTRY_UNREACHED, Breaker

WAITS = "breaker:"
"""What `Task.waiting_for` begins with while a breaker keeps it in line."""

UNAVAILABLE = "unavailable"
"""The error of what was not even tried, because what it needs is not there: one is enough to open."""


class State(StrEnum):
    """The words of the API, the database and the metrics."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When a breaker opens, and for how long.

    It opens once at least `failures` of the calls of the last `window_seconds` failed and these are at least `ratio` of
    them. `open_seconds` after it opened a probe is let through.
    """

    failures: int = 5
    ratio: float = 0.5
    window_seconds: float = 60.0
    open_seconds: float = 30.0


class Counted(NamedTuple):
    """A breaker as its row tells it.

    Calls are counted in two halves of the window, the present one and the one before it: what is looked at is between
    half a window and a whole one. `probe` names the attempt that is the probe. Open without `probe_at`: until reset.
    """

    state: State = State.CLOSED
    since: datetime | None = None
    probe_at: datetime | None = None
    probe: str = ""
    half_since: datetime | None = None
    calls: int = 0
    failures: int = 0
    calls_before: int = 0
    failures_before: int = 0
    reason: str = ""

    @property
    def ratio(self) -> float:
        """The share of calls that failed, of those that are counted; 0 where there are none."""
        calls = self.calls + self.calls_before
        return (self.failures + self.failures_before) / calls if calls else 0.0


class Call(NamedTuple):
    """How a call ended: `attempt` names the one that made it."""

    failed: bool
    conclusive: bool
    attempt: str


def outcome_of(breaker: Breaker, error: Mapping[str, Any] | None) -> tuple[bool, bool]:
    """(failed, conclusive): whether an attempt that ended so speaks against what the breaker guards.

    An error that is not among `on` is the caller's own: it says that what is guarded did answer. Of HTTP statuses those
    count that ask for another attempt (500 and above, 408, 425, 429).
    """
    if error is None:
        return False, False
    kind = str(error.get("type"))
    names = {kind, str(error.get("exit_code")), str(error.get("exception"))}
    if kind == "http_status" and not error.get("retryable", True):
        names.discard(kind)
    if REGISTRY_UNREACHED in names:
        names = {REGISTRY_UNREACHED}  # it speaks against the registry and nothing else: the step was not begun
    failed = bool(names & breaker.on)
    return failed, failed and kind == UNAVAILABLE


def rolled(breaker: Counted, policy: Policy, now: datetime) -> Counted:
    """With calls forgotten that are older than the window."""
    half = timedelta(seconds=policy.window_seconds / 2)
    if breaker.half_since is None or now - breaker.half_since >= 2 * half:
        return breaker._replace(half_since=now, calls=0, failures=0, calls_before=0, failures_before=0)
    if now - breaker.half_since < half:
        return breaker
    return breaker._replace(
        half_since=breaker.half_since + half,
        calls=0,
        failures=0,
        calls_before=breaker.calls,
        failures_before=breaker.failures,
    )


def count(breaker: Counted, policy: Policy, call: Call, now: datetime) -> Counted:
    """After this call. Late results of calls that began before it opened move nothing: the probe alone decides then."""
    if breaker.state is State.HALF_OPEN and call.attempt == breaker.probe:
        return opened(policy, now, "probe_failed") if call.failed else closed(now, "probe_succeeded")
    if breaker.state is not State.CLOSED:
        return breaker
    after = rolled(breaker, policy, now)
    after = after._replace(calls=after.calls + 1, failures=after.failures + call.failed)
    if not call.failed:
        return after
    if call.conclusive:
        return opened(policy, now, UNAVAILABLE)
    enough = after.failures + after.failures_before >= policy.failures and after.ratio >= policy.ratio
    return opened(policy, now, "failures") if enough else after


def opened(policy: Policy, now: datetime, reason: str, *, probe_at: datetime | None = None) -> Counted:
    """Open from now on; a probe after `open_seconds` unless another time is given."""
    at = probe_at or now + timedelta(seconds=policy.open_seconds)
    return Counted(state=State.OPEN, since=now, probe_at=at, reason=reason)


def held_open(now: datetime, reason: str) -> Counted:
    """Open until somebody resets it."""
    return Counted(state=State.OPEN, since=now, reason=reason)


def closed(now: datetime, reason: str) -> Counted:
    """Closed, with nothing counted."""
    return Counted(since=now, reason=reason)


def ask(breaker: Counted, policy: Policy, now: datetime, *, probe_lives: bool) -> datetime | None:
    """None where a call may go through now (from any state but closed: as the probe), else when to ask again.

    `probe_lives` tells whether the attempt that is the probe is still under way: one that was lost or cancelled leaves
    no result, and its place is free.
    """
    if breaker.state is State.CLOSED:
        return None
    later = now + timedelta(seconds=policy.open_seconds)
    if breaker.state is State.HALF_OPEN:
        return later if probe_lives else None
    if breaker.probe_at is None:
        return later
    return breaker.probe_at if breaker.probe_at > now else None


def probing(attempt: str, now: datetime) -> Counted:
    """Half-open, with this attempt as its probe."""
    return Counted(state=State.HALF_OPEN, since=now, probe=attempt, reason="probe")
