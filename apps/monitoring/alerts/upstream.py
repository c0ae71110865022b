"""An Alertmanager that is there already (`ALERTMANAGER_URL`): its alerts and silences, asked for with patience."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import httpx
from django.conf import settings

from apps.monitoring.models import Notice

SECONDS = 2.0
ENDS_UNLESS_TOLD_AGAIN = timedelta(minutes=3)


class Unreachable(Exception):
    """It did not answer in time, or not as it should; the text names no address."""


def alerts() -> list[dict[str, Any]]:
    """Its alerts, as its API has them."""
    found = _ask("GET", "/api/v2/alerts")
    if not isinstance(found, list):
        raise Unreachable("the Alertmanager did not answer with a list")
    return found


def silences() -> list[dict[str, Any]]:
    """Its silences."""
    found = _ask("GET", "/api/v2/silences")
    if not isinstance(found, list):
        raise Unreachable("the Alertmanager did not answer with a list")
    return found


def silence(body: Mapping[str, Any]) -> str:
    """Make a silence there; its id."""
    return str(_ask("POST", "/api/v2/silences", body)["silenceID"])


def expire(identity: str) -> bool:
    """End a silence there; False where it knows none of this id."""
    return _ask("DELETE", f"/api/v2/silence/{identity}", missing=True) is not _MISSING


def post(rows: Iterable[Notice], now: datetime) -> None:
    """Tell it of these alerts; one without an end ends unless it is told again."""
    body = [
        {
            "labels": row.labels,
            "annotations": row.annotations,
            "startsAt": row.starts_at.isoformat(),
            "endsAt": (row.ends_at or now + ENDS_UNLESS_TOLD_AGAIN).isoformat(),
            "generatorURL": row.annotations.get("runbook_url", ""),
        }
        for row in rows
    ]
    if body:
        _ask("POST", "/api/v2/alerts", body)


_MISSING = object()


def _ask(method: str, path: str, body: Any = None, *, missing: bool = False) -> Any:
    url = settings.ENV.ALERTMANAGER_URL.rstrip("/") + path
    try:
        answer = httpx.request(method, url, json=body, timeout=SECONDS, trust_env=False)
    except httpx.TimeoutException:
        raise Unreachable(f"no answer within {SECONDS:g} seconds") from None
    except httpx.HTTPError as error:
        raise Unreachable(f"no connection ({type(error).__name__})") from None
    if missing and answer.status_code in (400, 404):
        return _MISSING
    if answer.status_code != 200:
        raise Unreachable(f"it answered {answer.status_code}")
    try:
        return answer.json() if answer.content else {}
    except ValueError:
        raise Unreachable("its answer is no JSON") from None
