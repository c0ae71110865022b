"""The text of `monitoring/alerting_rules.yml` and of the tests of its rules, from the catalogue of alerts.

What each test expects is what the embedded evaluator says of the same series; promtool then says it again, so the two
check each other. Each alert is tried when all is well, at its boundary, before its `for`, and when it fires.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from apps.monitoring.alerts.catalogue import ALERTS, Alert
from apps.monitoring.alerts.history import History
from apps.monitoring.alerts.notation import samples_of, selector_of
from apps.monitoring.alerts.rules import Active, Evaluator, annotations_of, query_of

PLATFORM_URL = "http://platform.example"
HEAD = "# Written by `python scripts/monitoring.py` from apps/monitoring/alerts/catalogue.py: change it there.\n"
WELL, BOUNDARY, BURNING = range(3)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _dumped(data: Any) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)


def duration(seconds: int) -> str:
    """Seconds as Prometheus writes them."""
    return f"{seconds // 60}m" if seconds % 60 == 0 else f"{seconds}s"


def rules(waits: Mapping[str, int] | None = None) -> str:
    """The file of rules. `waits` has other values of `for`, in seconds, for a trial that cannot wait so long."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for alert in ALERTS:
        rule: dict[str, Any] = {"alert": alert.name, "expr": alert.expr}
        if wait := (waits or {}).get(alert.name, alert.wait):
            rule["for"] = duration(wait)
        rule |= {"labels": {"severity": alert.severity}, "annotations": annotations_of(alert)}
        groups.setdefault(alert.group, []).append(rule)
    return HEAD + _dumped({"groups": [{"name": name, "rules": rules} for name, rules in groups.items()]})


def tests(group: str, step: int) -> str:
    """The tests of a group's rules whose trials have this step."""
    cases = [case for alert in ALERTS if (alert.group, alert.trial.step) == (group, step) for case in _tests_of(alert)]
    head = {"rule_files": ["../alerting_rules.yml"], "evaluation_interval": duration(step)}
    return HEAD + _dumped({**head, "tests": cases})


def looks(alert: Alert, situation: int) -> list[tuple[int, list[Active]]]:
    """What the embedded evaluator says of a trial's series, look by look: (seconds from the beginning, active)."""
    trial = alert.trial
    history = History(query_of(alert.name).ranges)
    evaluator = Evaluator(history, [alert])
    columns = [(selector_of(text), samples_of(values[situation])) for text, values in trial.series.items()]
    found = []
    for place in range(max(len(samples) for _, samples in columns)):
        at = place * trial.step
        history.add(
            at,
            (
                (name, labels, value)
                for (name, labels), samples in columns
                if place < len(samples) and (value := samples[place]) is not None
            ),
        )
        found.append((at, evaluator.look(at)))
    return found


def _tests_of(alert: Alert) -> Iterator[dict[str, Any]]:
    for situation, what in ((WELL, "stays quiet"), (BOUNDARY, "stays quiet at its boundary"), (BURNING, "fires")):
        seen = looks(alert, situation)
        if situation == BURNING:
            fired = next(
                place for place, (_, active) in enumerate(seen) if any(one.fired_at is not None for one in active)
            )
            places = [place for place in (fired - 1, fired) if place >= 0]
        else:
            places = [len(seen) // 2, len(seen) - 1]
        yield {
            "name": f"{alert.name} {what}",
            "interval": duration(alert.trial.step),
            "external_labels": {"platform_url": PLATFORM_URL},
            "input_series": [
                {"series": series, "values": values[situation]} for series, values in alert.trial.series.items()
            ],
            "alert_rule_test": [_expected(alert, *seen[place]) for place in places],
        }


def _expected(alert: Alert, at: int, active: list[Active]) -> dict[str, Any]:
    return {
        "eval_time": duration(at),
        "alertname": alert.name,
        "exp_alerts": [
            {
                "exp_labels": {name: text for name, text in one.labels.items() if name != "alertname"},
                "exp_annotations": one.annotations({"platform_url": PLATFORM_URL}),
            }
            for one in filter(_fires, active)
        ],
    }


def _fires(one: Active) -> bool:
    return one.fired_at is not None


def files() -> dict[str, str]:
    """Every file that comes from the catalogue, by its path in the repository."""
    groups = dict.fromkeys((alert.group, alert.trial.step) for alert in ALERTS)
    return {
        "monitoring/alerting_rules.yml": rules(),
        **{
            f"monitoring/tests/{group}{'' if step == 60 else '-slow'}.yml": tests(group, step) for group, step in groups
        },
    }
