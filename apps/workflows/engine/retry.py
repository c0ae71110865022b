"""When a failed attempt is tried again, and after how long."""

import random
from collections.abc import Mapping
from typing import Any

from apps.workflows.engine.graph import RetryPolicy


def retry_delay(policy: RetryPolicy, *, retry: int, seed: str) -> float:
    """Seconds before the `retry`-th retry (from 1). `seed` makes the jitter repeatable."""
    delay = min(policy.max_delay, policy.delay * policy.backoff ** min(retry - 1, 1000))
    return random.Random(seed).uniform(0, delay) if policy.jitter else delay  # noqa: S311 (spreads load, guards nothing)


MOST_ASKED_SECONDS = 86_400.0


def asked_delay(error: Mapping[str, Any]) -> float:
    """Seconds that whoever refused asked to be left alone (`Retry-After`), a day at most; 0 where nobody did."""
    asked = error.get("retry_after")
    known = isinstance(asked, int | float) and asked == asked  # noqa: PLR0124 (NaN is not)
    return min(MOST_ASKED_SECONDS, max(0.0, float(asked))) if known and asked is not None else 0.0


def may_retry(policy: RetryPolicy, *, failures: int, error: Mapping[str, Any]) -> bool:
    """Whether a task that has now failed `failures` times is tried again after `error`."""
    if failures > policy.retries or not error.get("retryable", True):
        return False
    names = {str(error.get("type")), str(error.get("exit_code")), str(error.get("exception"))}
    return not (names & policy.not_on) and (not policy.on or bool(names & policy.on))
