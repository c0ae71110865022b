"""The embedded evaluator: every alert fires, stays quiet, at its boundary too, and not before its `for`."""

import subprocess
import sys
from pathlib import Path

import pytest

from apps.monitoring.alerts.catalogue import ALERTS, BY_NAME
from apps.monitoring.alerts.files import BOUNDARY, BURNING, WELL, looks, situation
from apps.monitoring.alerts.history import History
from apps.monitoring.alerts.notation import samples_of, selector_of
from apps.monitoring.alerts.promql import Query, Unsupported
from apps.monitoring.alerts.rules import ranges
from apps.monitoring.alerts.texts import filled, fingerprint, shown

ROOT = Path(__file__).resolve().parents[3]
TRIED = [alert for alert in ALERTS if alert.name != "Watchdog"]  # which always fires


def fired(seen):
    return [at for at, active in seen if any(one.fired_at is not None for one in active)]


def active(seen):
    return [at for at, found in seen if found]


@pytest.mark.parametrize("alert", TRIED, ids=lambda alert: alert.name)
def test_an_alert_stays_quiet_while_all_is_well_and_at_its_boundary(alert):
    assert fired(looks(alert, situation(alert, WELL), alert.trial.step)) == []
    assert fired(looks(alert, situation(alert, BOUNDARY), alert.trial.step)) == []


@pytest.mark.parametrize("alert", TRIED, ids=lambda alert: alert.name)
def test_an_alert_fires_after_its_for_and_not_before(alert):
    seen = looks(alert, situation(alert, BURNING), alert.trial.step)
    assert fired(seen)[0] - active(seen)[0] == alert.wait
    one = next(one for _, found in seen for one in found if one.fired_at is not None)
    assert one.labels["severity"] == alert.severity
    texts = one.annotations({"platform_url": "http://p"})
    assert texts["runbook_url"] == f"http://p/monitoring/runbooks/{alert.name}"
    assert "{{" not in "".join(texts.values())


EDGES = [(alert, edge) for alert in ALERTS for edge in alert.trial.edges]


@pytest.mark.parametrize(("alert", "edge"), EDGES, ids=[f"{alert.name}: {edge.what}" for alert, edge in EDGES])
def test_an_alert_fires_on_one_side_of_each_boundary_only(alert, edge):
    at, active = looks(alert, edge.series, edge.step)[edge.at]
    assert at == edge.at * edge.step
    assert any(one.fired_at is not None for one in active) is edge.fires


def test_the_committed_files_are_what_the_code_says():
    done = subprocess.run(
        [sys.executable, "scripts/monitoring.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_look_back_three_days_at_most():
    assert max(ranges().values()) == 3 * 24 * 3600
    assert ranges()["dagger_queue_depth"] == 0


@pytest.mark.parametrize(
    "expression",
    ["sum without (a) (b)", "a offset 5m", "a / on (b) c", "topk(3, a)", "predict_linear(a[1h], 60)", "a >", "-a"],
)
def test_what_is_not_evaluated_here_is_refused_when_it_is_read(expression):
    with pytest.raises(Unsupported):
        Query(expression)


def value_of(expression, at=600, **series):
    query = Query(expression)
    history = History(query.ranges)
    for text, values in series.items():
        name, labels = selector_of(text.replace("__", '{x="').replace("_q", '"}'))
        for place, value in enumerate(samples_of(values)):
            if value is not None:
                history.add(place * 60, [(name, labels, value)])
    return query.at(at, history)


@pytest.mark.parametrize(
    ("expression", "series", "expected"),
    [
        ("a + 1", {"a": "1x10"}, {(): 2.0}),
        ("1 - a / b", {"a": "1x10", "b": "4x10"}, {(): 0.75}),
        ("a / b", {"a": "1x10", "b": "0x10"}, {(): float("inf")}),
        ("increase(a[5m])", {"a": "0+6x10"}, {(): 30.0}),
        ("increase(a[5m])", {"a": "0 10 20 30 40 50 60 2 4 6 8"}, {(): 18.0}),  # a restart between
        ("increase(a[5m])", {"a": "_x9 5"}, {}),
        ("a", {"a": "1 2 3"}, {}),  # gone for more than five minutes
        ("absent(a)", {}, {(): 1.0}),
        ("absent(a)", {"a": "1x10"}, {}),
        ("a unless b", {"a": "1x10", "b": "1x10"}, {}),
        ("a or b", {"b": "2x10"}, {(): 2.0}),
        ("time() - a", {"a": "100x10"}, {(): 500.0}),
    ],
)
def test_expressions_have_the_values_that_prometheus_gives(expression, series, expected):
    assert value_of(expression, **series) == expected


def test_old_samples_are_thinned_and_forgotten():
    history = History({"a": 86_400.0, "b": 60.0})
    for second in range(0, 3 * 86_400, 60):
        history.add(second, [("a", {}, second), ("b", {}, second), ("c", {}, second)])
    history.thin(3 * 86_400)
    (a,), (b,), c = list(history.of("a")), list(history.of("b")), list(history.of("c"))
    assert a.times[0] >= 3 * 86_400 - 86_400 - 300
    assert len(a.times) < 86_400 / 300 + 90
    assert len(b.times) <= 7
    assert c == []


def test_a_label_set_has_prometheus_fingerprint():
    assert fingerprint({}) == "cbf29ce484222325"
    assert fingerprint({"alertname": "A", "b": "c"}) == fingerprint({"b": "c", "alertname": "A"})
    assert fingerprint({"a": "bc"}) != fingerprint({"ab": "c"})


@pytest.mark.parametrize(
    ("value", "how", "text"),
    [
        (0.123456, "humanizePercentage", "12.35%"),
        (3_725, "humanizeDuration", "1h 2m 5s"),
        (90_061, "humanizeDuration", "1d 1h 1m 1s"),
        (301, "humanizeDuration", "5m 1s"),
        (0.25, "humanizeDuration", "250ms"),
        (1234, "humanize", "1.234k"),
        (5, "humanize", "5"),
        (float("nan"), "humanize", "NaN"),
    ],
)
def test_values_are_shown_as_prometheus_shows_them(value, how, text):
    assert shown(value, how) == text


def test_a_text_takes_labels_and_forgives_what_is_missing():
    template = "{{ $labels.queue }}/{{ $labels.none }}/{{ $externalLabels.platform_url }}"
    assert filled(template, labels={"queue": "gpu"}, value=1, external={}) == "gpu//"


def test_the_catalogue_covers_every_severity():
    assert {alert.severity for alert in ALERTS} == {"critical", "warning", "info", "none"}
    assert len(BY_NAME) == len(ALERTS)
    assert all(alert.steps and alert.causes for alert in ALERTS)
