"""When a failed attempt is tried again, and after how long."""

import random
from collections.abc import Mapping
from typing import Any

from apps.workflows.engine.graph import RetryPolicy


def retry_delay(policy: RetryPolicy, *, retry: int, seed: str) -> float:
    """Seconds before the `retry`-th retry (from 1). `seed` makes the jitter repeatable."""
    delay = min(policy.max_delay, policy.delay * policy.backoff ** min(retry - 1, 1000))
    return random.Random(seed).uniform(0, delay) if policy.jitter else delay  # noqa: S311 (spreads load, guards nothing)


def may_retry(policy: RetryPolicy, *, failures: int, error: Mapping[str, Any]) -> bool:
    """Whether a task that has now failed `failures` times is tried again after `error`."""
    if failures > policy.retries or not error.get("retryable", True):
        return False
    names = {str(error.get("type")), str(error.get("exit_code")), str(error.get("exception"))}
    return not (names & policy.not_on) and (not policy.on or bool(names & policy.on))
