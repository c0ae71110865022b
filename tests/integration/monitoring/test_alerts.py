"""Alerts over HTTP: what fires, rules, silences, runbooks; without an Alertmanager and with one that answers or not."""

import json
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from apps.accounts.models import AuditEntry
from apps.core.clock import database_now
from apps.core.signatures import signed_message
from apps.monitoring.alerts import notices, watching
from apps.monitoring.alerts.catalogue import ALERTS, BY_NAME
from apps.monitoring.alerts.texts import fingerprint
from apps.monitoring.models import Notice, Silence
from apps.workflows.models import Figure, Performer
from apps.workflows.services import receivers

pytestmark = [
    pytest.mark.django_db, pytest.mark.urls("tests.integration.monitoring.urls"), pytest.mark.usefixtures("watch"),
]  # fmt: skip

READ = [
    "/monitoring/alerts", "/monitoring/rules", "/monitoring/silences", "/monitoring/runbooks/NoWorkers",
]  # fmt: skip


class Alertmanager:
    """Answers as the API of Alertmanager does."""

    def __init__(self):
        self.alerts, self.silences, self.posted, self.delay = [], [], [], 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                time.sleep(outer.delay)
                self.answer(outer.alerts if self.path.endswith("alerts") else outer.silences)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.posted.append((self.path, dict(self.headers), body))
                self.answer({"silenceID": "5b0dd5a4-1fd8-4c4f-9c5b-4b8c3c9a1b11"})

            def do_DELETE(self):
                known = self.path.rsplit("/", 1)[1] in {one["id"] for one in outer.silences}
                self.answer({} if known else None, 200 if known else 404)

            def answer(self, data, status=200):
                text = json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def alertmanager(set_env):
    running = Alertmanager()
    set_env(ALERTMANAGER_URL=running.url)
    yield running
    running.stop()


def named(answer):
    return {one["name"]: one for one in answer.json()["alerts"]}


# --- who may ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", READ)
def test_a32_alerts_need_monitoring_read(path, anonymous, outsider, reader):
    assert anonymous.get(path).status_code == 401
    assert outsider.get(path).status_code == 403
    assert reader.get(path).status_code == 200


def test_a32_unknown_names_are_404(reader):
    answer = reader.get("/monitoring/runbooks/Nothing")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_alert")


def test_silences_need_monitoring_update(reader, operator):
    body = {"matchers": [{"name": "alertname", "value": "X"}], "ends_at": "2100-01-01T00:00:00Z", "comment": "c"}
    assert reader.post("/monitoring/silences", body, "application/json").status_code == 403
    body["ends_at"] = (database_now() + timedelta(hours=1)).isoformat()
    assert operator.post("/monitoring/silences", body, "application/json").status_code == 201


# --- without an Alertmanager ------------------------------------------------------------------------------------------


def test_what_fires_is_told_with_its_labels_and_texts(reader, backlog, set_env):
    set_env(PLATFORM_URL="https://platform.example")
    answer = reader.get("/monitoring/alerts")
    told = answer.json()
    assert (told["source"], told["upstream_error"]) == ("embedded", None)
    one = named(answer)["NoWorkers"]
    assert (one["state"], one["severity"], one["value"], one["source"]) == ("firing", "critical", 1.0, ["embedded"])
    assert one["labels"] == {"alertname": "NoWorkers", "severity": "critical"}
    assert one["annotations"]["summary"] == "1 steps could run and no worker is alive"
    assert one["annotations"]["runbook_url"] == "https://platform.example/monitoring/runbooks/NoWorkers"
    assert one["fingerprint"] == fingerprint(one["labels"])
    assert named(answer)["QueueOldestTaskTooOld"]["labels"]["queue"] == "default"
    assert [one["severity"] for one in told["alerts"]][:2] == ["critical", "critical"]


def test_a_healthy_installation_has_only_the_watchdog(reader, watch):
    now = database_now()
    Performer.objects.create(name="w", kind="worker", slots=1, started_at=now, seen_at=now)
    Figure.objects.create(name="scheduler_tick", value=time.time())
    firing = [one["name"] for one in reader.get("/monitoring/alerts?state=firing").json()["alerts"]]
    assert set(firing) <= {"Watchdog", "CpuHigh", "DiskLow", "MemoryHigh"}  # of the host of these tests
    assert "Watchdog" in firing


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("state=firing&severity=critical&name=NoWorkers", ["NoWorkers"]),
        ("name=NoWorkers&state=pending", []),
        ("severity=none", ["Watchdog"]),
        ("name=Nothing", []),
    ],
)
def test_alerts_are_filtered(query, names, reader, backlog):
    assert [one["name"] for one in reader.get(f"/monitoring/alerts?{query}").json()["alerts"]] == names


@pytest.mark.parametrize(("query", "field"), [("state=burning", "/state"), ("severity=x", "/severity"), ("a=b", "/a")])
def test_a_filter_that_cannot_be_is_refused(query, field, reader):
    answer = reader.get(f"/monitoring/alerts?{query}")
    assert answer.status_code == 400
    assert [one["pointer"] for one in answer.json()["errors"]] == [field]


def test_the_rules_are_those_of_the_file(reader, backlog):
    told = reader.get("/monitoring/rules").json()["rules"]
    assert [one["name"] for one in told] == [alert.name for alert in ALERTS]
    states = {one["name"]: one["state"] for one in told}
    assert (states["NoWorkers"], states["ScheduleMissed"]) == ("firing", "inactive")


def test_a_runbook_shows_the_live_value(reader, backlog):
    told = reader.get("/monitoring/runbooks/QueueOldestTaskTooOld").json()
    assert (told["state"], told["severity"], told["for_seconds"]) == ("firing", "critical", 60)
    assert told["values"][0]["labels"] == {"queue": "default"}
    assert told["values"][0]["value"] > 7000
    assert told["steps"] == list(BY_NAME["QueueOldestTaskTooOld"].steps)


def test_a_silence_keeps_an_alert_quiet_and_can_be_ended(reader, operator, backlog):
    body = {
        "matchers": [{"name": "alertname", "value": "No.*", "is_regex": True}],
        "ends_at": (database_now() + timedelta(hours=1)).isoformat(),
        "comment": "moving the workers",
    }
    made = operator.post("/monitoring/silences", body, "application/json").json()
    assert named(reader.get("/monitoring/alerts"))["NoWorkers"]["silenced_by"] == [made["id"]]
    assert reader.get("/monitoring/alerts?state=silenced").json()["alerts"][0]["name"] == "NoWorkers"
    (listed,) = reader.get("/monitoring/silences").json()["silences"]
    assert (listed["comment"], listed["created_by"]) == ("moving the workers", "operator")
    assert operator.delete(f"/monitoring/silences/{made['id']}").status_code == 204
    assert operator.delete(f"/monitoring/silences/{made['id']}").status_code == 404
    assert reader.get("/monitoring/silences").json()["silences"] == []
    assert named(reader.get("/monitoring/alerts"))["NoWorkers"]["state"] == "firing"


@pytest.mark.parametrize(
    "change",
    [
        {"matchers": []},
        {"matchers": [{"name": "1x", "value": "a"}]},
        {"matchers": [{"name": "a", "value": "(a+)+$", "is_regex": True}]},
        {"ends_at": "2020-01-01T00:00:00Z"},
        {"ends_at": "2100-01-01T00:00:00Z"},
        {"ends_at": "soon"},
        {"owner": "x"},
        {"comment": None},
    ],
)
def test_a_bad_silence_is_refused(change, operator):
    good = {
        "matchers": [{"name": "alertname", "value": "X"}], "comment": "c",
        "ends_at": (database_now() + timedelta(hours=1)).isoformat(),
    }  # fmt: skip
    assert operator.post("/monitoring/silences", {**good, **change}, "application/json").status_code == 400
    assert not Silence.objects.exists()


# --- with an Alertmanager ---------------------------------------------------------------------------------------------


def theirs(state="active", **labels):
    labels = {"alertname": "NoWorkers", "severity": "critical", "platform_url": "http://p", **labels}
    return {
        "labels": labels, "annotations": {"summary": "theirs"}, "startsAt": "2026-01-01T00:00:00Z",
        "fingerprint": fingerprint(labels),
        "status": {"state": state, "silencedBy": ["s1"] if state == "suppressed" else [], "inhibitedBy": []},
    }  # fmt: skip


def test_an_alert_that_both_know_is_one(reader, backlog, alertmanager):
    alertmanager.alerts = [theirs("suppressed"), theirs(alertname="Elsewhere", severity="page")]
    answer = reader.get("/monitoring/alerts")
    assert (answer.json()["source"], answer.json()["upstream_error"]) == ("alertmanager", None)
    both = [one for one in answer.json()["alerts"] if one["name"] == "NoWorkers"]
    assert len(both) == 1
    assert (both[0]["state"], both[0]["silenced_by"]) == ("silenced", ["s1"])
    assert (both[0]["source"], both[0]["value"]) == (["embedded", "alertmanager"], 1.0)
    assert named(answer)["Elsewhere"]["source"] == ["alertmanager"]
    assert named(answer)["QueueOldestTaskTooOld"]["source"] == ["embedded"]


def test_an_alert_of_this_host_is_listed_once_whatever_the_server_is_called_that_was_scraped(
    reader, watch, alertmanager, monkeypatch
):
    full = [
        ("dagger_disk_usage_bytes", {"mount": "/data"}, 95.0),
        ("dagger_disk_size_bytes", {"mount": "/data"}, 100.0),
    ]
    monkeypatch.setattr(watching, "samples", lambda _history: iter(full))
    for minute in range(10):
        watch.look(time.time() - 600 + minute * 60)

    def listed():
        alerts = reader.get("/monitoring/alerts?name=DiskLow").json()["alerts"]
        return [(one["labels"].get("instance"), one["source"], one["value"]) for one in alerts]

    assert listed() == [(None, ["embedded"], 0.95)], "the control"
    alertmanager.alerts = [theirs(alertname="DiskLow", mount="/data", instance="server:8000")]
    assert listed() == [("server:8000", ["embedded", "alertmanager"], None)]
    alertmanager.alerts.append(theirs(alertname="DiskLow", mount="/data", instance="other:8000"))
    assert sorted(host for host, *_ in listed()) == ["other:8000", "server:8000"]
    alertmanager.alerts = [theirs(alertname="DiskLow", mount="/", instance="server:8000")]
    assert sorted(source for _, source, _ in listed()) == [["alertmanager"], ["embedded"]]


def test_an_alertmanager_that_is_down_costs_its_part_only(reader, backlog, alertmanager):
    alertmanager.stop()
    answer = reader.get("/monitoring/alerts")
    assert answer.status_code == 200
    assert answer.json()["source"] == "embedded"
    assert "no connection" in answer.json()["upstream_error"]
    assert named(answer)["NoWorkers"]["state"] == "firing"
    assert "no connection" in reader.get("/monitoring/silences").json()["upstream_error"]


def test_an_alertmanager_that_hangs_costs_two_seconds(reader, backlog, alertmanager):
    alertmanager.delay = 120.0
    began = time.monotonic()
    answer = reader.get("/monitoring/alerts")
    assert time.monotonic() - began < 60.0  # on whatever machine: the two seconds are in the answer
    assert "no answer within 2 seconds" in answer.json()["upstream_error"]


def test_silences_are_made_and_ended_there(operator, reader, alertmanager):
    body = {
        "matchers": [{"name": "alertname", "value": "X"}], "comment": "c",
        "ends_at": (database_now() + timedelta(hours=1)).isoformat(),
    }  # fmt: skip
    made = operator.post("/monitoring/silences", body, "application/json").json()
    path, _, sent = alertmanager.posted[0]
    assert (path, json.loads(sent)["createdBy"], made["source"]) == ("/api/v2/silences", "operator", "alertmanager")
    assert operator.delete(f"/monitoring/silences/{made['id']}").status_code == 404
    alertmanager.silences = [{"id": made["id"], "matchers": [], "status": {"state": "active"}}]
    assert [one["id"] for one in reader.get("/monitoring/silences").json()["silences"]] == [made["id"]]
    assert operator.delete(f"/monitoring/silences/{made['id']}").status_code == 204
    alertmanager.stop()
    assert operator.post("/monitoring/silences", body, "application/json").status_code == 503
    assert not Silence.objects.exists()


# --- telling ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def told(make_user, set_env, alertmanager):
    """A receiver named `alerts`: what it was sent, with every signature verified."""
    host = alertmanager.url.removeprefix("http://")
    set_env(ALERTMANAGER_URL="", HTTP_STEP_ALLOWED_HOSTS=(host,))
    _, secret = receivers.create(
        name="alerts", kind="webhook", target=f"{alertmanager.url}/hook", secret=None, by=make_user("admin")
    )

    def sent():
        found = []
        for path, headers, body in alertmanager.posted:
            assert path == "/hook"
            low = {name.lower(): value for name, value in headers.items()}
            assert signed_message(secret, low, body, now=database_now())
            found.append(json.loads(body))
        return found

    return sent


def test_a_change_is_told_once_however_many_processes_see_it(told, watch, backlog):
    for _ in range(3):
        notices.keep(watch.look())
    firing = [(one["type"], one["name"]) for one in told()]
    assert sorted(firing)[:2] == [("alert.firing", "NoWorkers"), ("alert.firing", "QueueOldestTaskTooOld")]
    assert len(firing) == len(set(firing))
    Notice.objects.update(seen_at=database_now() - timedelta(minutes=2))
    notices.keep([])
    notices.keep([])
    ended = [one["name"] for one in told() if one["type"] == "alert.resolved"]
    assert sorted(ended) == sorted(name for _, name in firing)
    notices.keep([])
    assert not Notice.objects.exists()


def test_what_could_not_be_told_is_told_later(told, watch, backlog, alertmanager, set_env):
    hosts = notices.settings.ENV.HTTP_STEP_ALLOWED_HOSTS
    set_env(HTTP_STEP_ALLOWED_HOSTS=())
    notices.keep(watch.look())
    assert not told()
    set_env(HTTP_STEP_ALLOWED_HOSTS=hosts)
    notices.keep(watch.look())
    assert not told()  # not at once again
    Notice.objects.update(tried_at=database_now() - timedelta(minutes=2))
    notices.keep(watch.look())
    assert "NoWorkers" in {one["name"] for one in told()}


def test_a_silenced_alert_is_told_to_nobody(told, watch, backlog):
    Silence.objects.create(
        matchers=[{"name": "severity", "value": ".*", "is_regex": True}], comment="c",
        starts_at=database_now(), ends_at=database_now() + timedelta(hours=1),
    )  # fmt: skip
    notices.keep(watch.look())
    assert not told()


def test_an_alertmanager_is_told_where_no_prometheus_is(watch, backlog, alertmanager, set_env):
    set_env(PLATFORM_URL="https://platform.example")
    notices.keep(watch.look())
    path, _, body = alertmanager.posted[-1]
    assert path == "/api/v2/alerts"
    (one,) = [one for one in json.loads(body) if one["labels"]["alertname"] == "NoWorkers"]
    assert one["annotations"]["summary"] == "1 steps could run and no worker is alive"
    assert one["endsAt"] > one["startsAt"]


def test_a_silence_is_told_to_the_audit_log(operator):
    body = {
        "matchers": [{"name": "alertname", "value": "X"}], "comment": "c",
        "ends_at": (database_now() + timedelta(hours=1)).isoformat(),
    }  # fmt: skip
    operator.post("/monitoring/silences", body, "application/json")
    assert AuditEntry.objects.filter(action__startswith="monitoring").exists()
