"""Filters of the pages: durations, JSON as text, the gist of an event, words of statuses."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from apps.workflows.models import Event

register = template.Library()

MOST_LETTERS = 20_000
MOST_OF_A_GIST = 300


@register.filter
def seconds(value: Any) -> str:
    """A duration as a person says it: `340 ms`, `4.2 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`."""
    number = max(0.0, float(value))
    if number < 1:
        return f"{number * 1000:.0f} ms"
    if number < 10:
        return f"{number:.1f} s"
    whole = round(number)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


@register.filter
def since(end: datetime | None, start: datetime | None) -> str:
    """The time from `start` to `end`; empty where one of them is not known."""
    return "" if end is None or start is None else seconds((end - start).total_seconds())


@register.filter
def iso(value: datetime | None) -> str:
    """For `<time datetime>`: ISO 8601 in UTC."""
    return "" if value is None else value.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@register.filter
def words(status: str) -> str:
    """A status as words: `in_progress` is `in progress`."""
    return str(status).replace("_", " ")


@register.filter
def pretty(value: Any) -> str:
    """A JSON value as indented text, cut where nobody would read on."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}\n… {len(text) - MOST_LETTERS:,} more"


@register.filter
def percent(share: float) -> str:
    """A share of 1 as a percentage: `79 %`."""
    return f"{share * 100:.0f} %"


@register.filter
def as_step(step: str) -> str:
    """The body of a request that names a step."""
    return json.dumps({"step_id": step})


@register.filter
def spans(text: str) -> SafeString:
    """A text of ours, escaped, with what stands between backticks as code."""
    parts = str(text).split("`")
    code = range(1, len(parts) - 1, 2)
    return format_html_join(
        "", "{}", ((format_html("<code>{}</code>", part) if at in code else part,) for at, part in enumerate(parts))
    )


@register.filter
def gist(event: Event) -> str:
    """What a line of the journal says beside its type: a message, an error, or who performs it."""
    data: Mapping[str, Any] = event.data
    error = data.get("error")
    parts = [
        str(data.get("message") or ""),
        str(error.get("message", "")) if isinstance(error, Mapping) else "",
        f"by {data['performer']}" if data.get("performer") else "",
        f"for {data['waiting_for']}" if data.get("waiting_for") else "",
        f"attempt {data['attempt']}" if event.type == "task.started" and data.get("attempt", 0) > 1 else "",
    ]
    return " · ".join(part for part in parts if part)[:MOST_OF_A_GIST]
