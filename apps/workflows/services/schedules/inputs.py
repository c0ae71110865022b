"""The inputs of a schedule's executions: plain data in which two texts stand for the moment."""

import re
from datetime import UTC, datetime
from typing import Any

from apps.workflows.definition.cron import zone_of

_STANDS_FOR_MOMENT = re.compile(r"\$\{(scheduled_for|scheduled_date)\}")


def filled(inputs: dict[str, Any], moment: datetime, zone: str) -> dict[str, Any]:
    """`inputs` with `${scheduled_for}` as the moment (`2026-03-29T01:00:00Z`) and `${scheduled_date}` as its date.

    The date is that of `zone`. They are replaced in every text among the values, and nothing else is: names of inputs,
    keys of objects and any other `${…}` stay as they are. Raises `Invalid` for an unknown zone.
    """
    texts = {
        "scheduled_for": moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z",
        "scheduled_date": moment.astimezone(zone_of(zone)).date().isoformat(),
    }
    return {name: _filled(value, texts) for name, value in inputs.items()}


def _filled(value: Any, texts: dict[str, str]) -> Any:
    if isinstance(value, str):
        return _STANDS_FOR_MOMENT.sub(lambda found: texts[found[1]], value)
    if isinstance(value, dict):
        return {key: _filled(inner, texts) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, texts) for inner in value]
    return value
