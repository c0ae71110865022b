"""A real Alertmanager and no Prometheus: the platform tells it, it routes, and silences made here hold there."""

import subprocess
from datetime import timedelta

import httpx
import pytest
from django.core.management import call_command

from apps.core.clock import database_now
from apps.monitoring.alerts import notices
from tests.e2e.test_make_run import until
from tests.e2e.test_monitoring_live import Hook, ready, tool
from tests.support.postgres import free_port

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.monitoring.urls")]


@pytest.fixture
def hook():
    made = Hook()
    yield made
    made.stop()


@pytest.fixture
def alertmanager(tmp_path, set_env, hook):
    """Debian's, with the committed routes and this test's destinations; its URL."""
    address = f"127.0.0.1:{free_port()}"
    told = f"http://127.0.0.1:{hook.port}"
    set_env(
        ALERTMANAGER_URL=f"http://{address}", PROMETHEUS_URL="", ALERT_PAGER=(f"{told}/pager",),
        ALERT_OPERATORS=(f"{told}/operators",), ALERT_WATCHDOG=(f"{told}/watchdog",),
    )  # fmt: skip
    path = tmp_path / "alertmanager.yml"
    call_command("alertmanager_config", str(path))
    path.write_text(path.read_text().replace("group_wait: 10s", "group_wait: 0s"))
    command = [
        tool("prometheus-alertmanager"), f"--config.file={path}", f"--storage.path={tmp_path}/am",
        f"--web.listen-address={address}", "--cluster.listen-address=",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: ready(f"http://{address}"), 60)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(90)


def test_what_fires_here_is_routed_there_and_silences_made_here_hold_there(
    reader, operator, backlog, watch, alertmanager, hook
):
    def state(name="NoWorkers"):
        answer = reader.get(f"/monitoring/alerts?name={name}").json()
        if answer["upstream_error"] is not None:
            return None  # it took longer than its two seconds, on a machine that others load
        assert answer["source"] == "alertmanager"
        return {(one["state"], tuple(one["source"])) for one in answer["alerts"]}

    notices.keep(watch.look())
    until(lambda: state() == {("firing", ("embedded", "alertmanager"))}, 60)
    assert until(lambda: hook.first("NoWorkers", "firing"), 60)[1] == "/pager"

    body = {
        "matchers": [{"name": "alertname", "value": "NoWork.*", "is_regex": True}], "comment": "being mended",
        "ends_at": (database_now() + timedelta(hours=1)).isoformat(),
    }  # fmt: skip
    made = operator.post("/monitoring/silences", body, "application/json").json()
    assert made["source"] == "alertmanager"
    until(lambda: state() == {("silenced", ("embedded", "alertmanager"))}, 60)
    (theirs,) = httpx.get(f"{alertmanager}/api/v2/silences", timeout=60).json()
    assert (theirs["id"], theirs["createdBy"], theirs["status"]["state"]) == (made["id"], "operator", "active")
    assert [one["id"] for one in reader.get("/monitoring/silences").json()["silences"]] == [made["id"]]
    assert operator.delete(f"/monitoring/silences/{made['id']}").status_code == 204
    until(lambda: state() == {("firing", ("embedded", "alertmanager"))}, 60)
    assert reader.get("/monitoring/silences").json()["silences"] == []
