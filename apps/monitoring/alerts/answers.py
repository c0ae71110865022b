"""What `/monitoring/alerts` and its neighbours answer: this process's own evaluation, merged with an Alertmanager's."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import AnonymousUser

from apps.accounts.models import User
from apps.core.clock import database_now
from apps.core.errors import NotFound, Unavailable
from apps.monitoring.alerts import silences as own_silences
from apps.monitoring.alerts import upstream
from apps.monitoring.alerts.catalogue import ALERTS, SEVERITIES, Alert
from apps.monitoring.alerts.notices import external
from apps.monitoring.alerts.rules import Active
from apps.monitoring.alerts.texts import fingerprint
from apps.monitoring.alerts.watching import watch
from apps.monitoring.models import Silence

_STATES = ("firing", "pending", "silenced")
# What Prometheus adds to the labels of every alert that it sends on: no part of which alert it is.
EXTERNAL = frozenset({"platform_url"})
# What it adds to those of a host: the server that it scraped. This process sees its own host alone, and names none.
_HOST = frozenset({"instance"})


def alerts() -> dict[str, Any]:
    """Current alerts, the worst first. An Alertmanager that does not answer costs its part, and says so."""
    quiet = own_silences.active(database_now())
    seen = watch.look()
    found = {one.fingerprint: _own(one, quiet) for one in seen}
    source, trouble = "embedded", None
    if settings.ENV.ALERTMANAGER_URL:
        try:
            found = _merged(found, upstream.alerts())
            source = "alertmanager"
        except upstream.Unreachable as error:
            trouble = str(error)
    ranked = sorted(found.values(), key=lambda one: (_STATES.index(one["state"]), _rank(one["severity"]), one["name"]))
    return {
        "alerts": ranked,
        "source": source,
        "evaluated_at": datetime.fromtimestamp(watch.looked_at, tz=UTC).isoformat(),
        "upstream_error": trouble,
    }


def rules() -> list[dict[str, Any]]:
    """Every alert that there is, and the worst state it is in."""
    states = _states(watch.look())
    return [
        {
            "name": alert.name,
            "group": alert.group,
            "severity": alert.severity,
            "expr": alert.expr,
            "for_seconds": alert.wait,
            "summary": alert.summary,
            "description": alert.description,
            "runbook": f"/monitoring/runbooks/{alert.name}",
            "state": states.get(alert.name, "inactive"),
        }
        for alert in ALERTS
    ]


def silences() -> dict[str, Any]:
    """The Alertmanager's where there is one, else ours."""
    if settings.ENV.ALERTMANAGER_URL:
        try:
            return {"silences": [_theirs(one) for one in upstream.silences() if _holds(one)], "upstream_error": None}
        except upstream.Unreachable as error:
            return {"silences": [], "upstream_error": str(error)}
    return {"silences": [_silence(one) for one in own_silences.listed()], "upstream_error": None}


def silence(given: Mapping[str, Any], *, by: User | AnonymousUser) -> dict[str, Any]:
    """Make one. Raises Unavailable where there is an Alertmanager that does not take it."""
    if not settings.ENV.ALERTMANAGER_URL:
        return _silence(own_silences.create(**given, by=by))
    body = {
        "matchers": [
            {"name": m["name"], "value": m["value"], "isRegex": m["is_regex"], "isEqual": m["is_equal"]}
            for m in given["matchers"]
        ],
        "startsAt": given["starts_at"].isoformat(),
        "endsAt": given["ends_at"].isoformat(),
        "comment": given["comment"],
        "createdBy": by.get_username() or "anonymous",
    }
    try:
        return _theirs({**body, "id": upstream.silence(body)})
    except upstream.Unreachable as error:
        raise Unavailable(f"The Alertmanager did not take the silence: {error}.") from None


def expire(identity: UUID) -> None:
    """End one. Raises NotFound, or Unavailable where the Alertmanager does not answer."""
    if not settings.ENV.ALERTMANAGER_URL:
        own_silences.expire(identity)
        return
    try:
        known = upstream.expire(str(identity))
    except upstream.Unreachable as error:
        raise Unavailable(f"The Alertmanager did not end the silence: {error}.") from None
    if not known:
        raise NotFound("There is no silence of this id.")


def runbook(alert: Alert) -> dict[str, Any]:
    """The page of an alert, with what its rule gives now."""
    mine = [one for one in watch.look() if one.alert.name == alert.name]
    values = [{"labels": _told_labels(one), "value": one.value, "state": _state(one)} for one in mine]
    return {**runbook_text(alert), "state": _states(mine).get(alert.name, "inactive"), "values": values}


def runbook_text(alert: Alert) -> dict[str, Any]:
    """What does not change of it."""
    return {
        "name": alert.name,
        "severity": alert.severity,
        "expr": alert.expr,
        "for_seconds": alert.wait,
        "description": alert.description,
        "causes": list(alert.causes),
        "steps": list(alert.steps),
    }


def _state(one: Active) -> str:
    return "pending" if one.fired_at is None else "firing"


def _states(seen: Sequence[Active]) -> dict[str, str]:
    states: dict[str, str] = {}
    for one in seen:
        if states.get(one.alert.name) != "firing":
            states[one.alert.name] = _state(one)
    return states


def _told_labels(one: Active) -> dict[str, str]:
    return {name: value for name, value in one.labels.items() if name not in ("alertname", "severity")}


def _own(one: Active, quiet: Sequence[Silence]) -> dict[str, Any]:
    by = own_silences.silencing(one.labels, quiet)
    return {
        "name": one.alert.name,
        "state": "silenced" if by else _state(one),
        "severity": one.alert.severity,
        "labels": dict(one.labels),
        "annotations": one.annotations(external()),
        "value": one.value,
        "active_at": datetime.fromtimestamp(one.active_at, tz=UTC).isoformat(),
        "fingerprint": one.fingerprint,
        "silenced_by": by,
        "source": ["embedded"],
    }


def _merged(ours: Mapping[str, dict[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the Alertmanager knows of an alert counts: it may be silenced there, and it knows when it began.

    An alert of a host is one for each host there. Ours is about one of them, nobody can tell which: it is listed by
    itself where they have none, and its value is nobody else's.
    """
    told, known = {}, set()
    for one in theirs:
        labels = {str(name): str(value) for name, value in dict(one.get("labels") or {}).items()}
        key, of_a_host = _key(labels, EXTERNAL), _key(labels, EXTERNAL | _HOST)
        known |= {key, of_a_host}
        status = dict(one.get("status") or {})
        told[key] = {
            "name": labels.get("alertname", ""),
            "state": "silenced" if status.get("state") == "suppressed" else "firing",
            "severity": labels.get("severity", ""),
            "labels": labels,
            "annotations": {str(name): str(text) for name, text in dict(one.get("annotations") or {}).items()},
            "value": ours[key]["value"] if key in ours else None,
            "active_at": str(one.get("startsAt", "")),
            "fingerprint": str(one.get("fingerprint", key)),
            "silenced_by": [str(by) for by in (*status.get("silencedBy", ()), *status.get("inhibitedBy", ()))],
            "source": [*(["embedded"] if key in ours or of_a_host in ours else []), "alertmanager"],
        }
    return {**{key: one for key, one in ours.items() if key not in known}, **told}


def _key(labels: Mapping[str, str], without: frozenset[str]) -> str:
    return fingerprint({name: value for name, value in labels.items() if name not in without})


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def _silence(one: Silence) -> dict[str, Any]:
    return {
        "id": str(one.pk),
        "matchers": one.matchers,
        "starts_at": one.starts_at.isoformat(),
        "ends_at": one.ends_at.isoformat(),
        "comment": one.comment,
        "created_by": one.created_by.get_username() if one.created_by else None,
        "source": "embedded",
    }


def _holds(one: Mapping[str, Any]) -> bool:
    return dict(one.get("status") or {}).get("state") != "expired"


def _theirs(one: Mapping[str, Any]) -> dict[str, Any]:
    matchers = [
        {
            "name": m["name"],
            "value": m["value"],
            "is_regex": m.get("isRegex", False),
            "is_equal": m.get("isEqual", True),
        }
        for m in one.get("matchers", ())
    ]
    return {
        "id": str(one.get("id", "")),
        "matchers": matchers,
        "starts_at": str(one.get("startsAt", "")),
        "ends_at": str(one.get("endsAt", "")),
        "comment": str(one.get("comment", "")),
        "created_by": one.get("createdBy"),
        "source": "alertmanager",
    }
