"""Rules carried out over a history: what is pending, what fires, since when; the state lives in this process."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

from apps.monitoring.alerts.catalogue import ALERTS, BY_NAME, Alert
from apps.monitoring.alerts.history import History
from apps.monitoring.alerts.promql import Query
from apps.monitoring.alerts.texts import filled, fingerprint

LEAST_HELD_SECONDS = 60.0
"""Some gauges of a process are told a while after it began."""


@cache
def query_of(name: str) -> Query:
    """The parsed expression of a rule."""
    return Query(next(alert.expr for alert in ALERTS if alert.name == name))


def ranges() -> Mapping[str, float]:
    """By metric name, how many seconds back any rule looks."""
    longest: dict[str, float] = {}
    for alert in ALERTS:
        for name, seconds in query_of(alert.name).ranges.items():
            longest[name] = max(seconds, longest.get(name, 0.0))
    return longest


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """An alert whose expression holds for one set of labels. `fired_at` is None while it is pending; times are Unix."""

    alert: Alert
    labels: Mapping[str, str]
    value: float
    active_at: float
    fired_at: float | None

    @property
    def fingerprint(self) -> str:
        """As Prometheus has it of the same labels."""
        return fingerprint(self.labels)

    def annotations(self, external: Mapping[str, str]) -> dict[str, str]:
        """The texts, with labels and value in them."""
        return {
            name: filled(template, labels=self.labels, value=self.value, external=external)
            for name, template in annotations_of(self.alert).items()
        }


def annotations_of(alert: Alert) -> dict[str, str]:
    """The templates of its texts."""
    return {
        "summary": alert.summary,
        "description": alert.description,
        "runbook_url": f"{{{{ $externalLabels.platform_url }}}}/monitoring/runbooks/{alert.name}",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """An alert that fires, as it was noted by whoever saw it; `active_at` is Unix time."""

    name: str
    labels: Mapping[str, str]
    value: float
    active_at: float


@dataclass(slots=True)
class Evaluator:
    """Takes a look now and then, and remembers since when what holds."""

    history: History
    alerts: Iterable[Alert] = ALERTS
    _since: dict[tuple[str, str], float] = field(default_factory=dict)
    _held: dict[tuple[str, str], tuple[Active, float]] = field(default_factory=dict)

    def resume(self, firing: Iterable[Fired], at: float) -> None:
        """Go on from what fired before this evaluator was made, at the moment `at`.

        What still holds has held since then. What does not is believed only when the history is as long as the rule's
        shortest window: a counter of which nothing earlier is known has not risen, and an end would be told that is
        none.
        """
        for one in firing:
            alert = BY_NAME.get(one.name)
            if alert is None:
                continue
            begun = min(one.active_at, at - alert.wait)
            mark = (alert.name, fingerprint(one.labels))
            active = Active(
                alert=alert, labels=one.labels, value=one.value, active_at=begun, fired_at=begun + alert.wait
            )
            self._since[mark] = begun
            self._held[mark] = active, at + max(query_of(alert.name).shortest, LEAST_HELD_SECONDS)

    def look(self, at: float) -> list[Active]:
        """What is active at this moment."""
        found, since = [], {}
        for alert in self.alerts:
            value = query_of(alert.name).at(at, self.history)
            vector = value if isinstance(value, dict) else {(): value}
            for key, number in vector.items():
                labels = {**dict(key), "alertname": alert.name, "severity": alert.severity}
                mark = (alert.name, fingerprint(labels))
                begun = since[mark] = self._since.get(mark, at)
                fires = at - begun >= alert.wait
                found.append(
                    Active(
                        alert=alert,
                        labels=labels,
                        value=number if math.isfinite(number) else 0.0,
                        active_at=begun,
                        fired_at=begun + alert.wait if fires else None,
                    )
                )
        self._held = {mark: held for mark, held in self._held.items() if at < held[1]}
        for mark, (active, _) in self._held.items():
            if mark not in since:
                since[mark] = active.active_at
                found.append(active)
        self._since = since
        return found
