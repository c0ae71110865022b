"""The text of `monitoring/alerting_rules.yml` and of the tests of its rules, from the catalogue of alerts.

What each test expects is what the embedded evaluator says of the same series; promtool then says it again, so the two
check each other. Each alert is tried when all is well, at its boundary, before its `for`, and when it fires.
"""

from collections.abc import Iterator, Mapping, Sequence
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
    """The tests of a group's rules whose series have this step."""
    cases = [case for alert in ALERTS if alert.group == group for case in _tests_of(alert, step)]
    head = {"rule_files": ["../alerting_rules.yml"], "evaluation_interval": duration(step)}
    return HEAD + _dumped({**head, "tests": cases})


def situation(alert: Alert, which: int) -> Mapping[str, str]:
    """The series of one of a trial's three situations."""
    return {series: values[which] for series, values in alert.trial.series.items()}


def looks(alert: Alert, series: Mapping[str, str], step: int) -> list[tuple[int, list[Active]]]:
    """What the embedded evaluator says of these series, look by look: (seconds from the beginning, active)."""
    history = History(query_of(alert.name).ranges)
    evaluator = Evaluator(history, [alert])
    columns = [(selector_of(text), samples_of(values)) for text, values in series.items()]
    found = []
    for place in range(max(len(samples) for _, samples in columns)):
        at = place * step
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


def _tests_of(alert: Alert, step: int) -> Iterator[dict[str, Any]]:
    situations = ((WELL, "stays quiet"), (BOUNDARY, "stays quiet at its boundary"), (BURNING, "fires"))
    for which, what in situations if alert.trial.step == step else ():
        series = situation(alert, which)
        seen = looks(alert, series, step)
        if which == BURNING:
            fired = next(place for place, (_, active) in enumerate(seen) if any(map(_fires, active)))
            places = [place for place in (fired - 1, fired) if place >= 0]
        else:
            places = [len(seen) // 2, len(seen) - 1]
        yield _test(alert, what, series, step, [seen[place] for place in places])
    for edge in alert.trial.edges:
        if edge.step == step:
            what = f"{'fires' if edge.fires else 'stays quiet'}, {edge.what}"
            yield _test(alert, what, edge.series, step, [looks(alert, edge.series, step)[edge.at]])


def _test(
    alert: Alert, what: str, series: Mapping[str, str], step: int, seen: Sequence[tuple[int, list[Active]]]
) -> dict[str, Any]:
    return {
        "name": f"{alert.name} {what}",
        "interval": duration(step),
        "external_labels": {"platform_url": PLATFORM_URL},
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "alert_rule_test": [_expected(alert, at, active) for at, active in seen],
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
    groups = dict.fromkeys(
        (alert.group, step)
        for alert in ALERTS
        for step in (alert.trial.step, *(edge.step for edge in alert.trial.edges))
    )
    return {
        "monitoring/alerting_rules.yml": rules(),
        **{
            f"monitoring/tests/{group}{'' if step == 60 else f'-{duration(step)}'}.yml": tests(group, step)
            for group, step in groups
        },
    }
