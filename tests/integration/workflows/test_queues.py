"""Queues and workers over REST: what they show, and that a paused queue gives nothing away."""

from datetime import timedelta

import pytest
from rest_framework.test import APIClient

from apps.core.clock import database_now
from apps.workflows.models import Lane, Performer
from apps.workflows.services import leases
from apps.workflows.services.ledger import lanes
from tests.integration.conftest import noop
from tests.integration.workflows.driver import claim

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _lanes_anew():
    lanes.forget()
    yield
    lanes.forget()


@pytest.fixture
def admin(make_user, client_of):
    return client_of(make_user("admin"))


def beat(name, **values):
    leases.beat(owner=name, kind="worker", slots=4, held=[], lease_seconds=30, **values)


def queue(client, name):
    return next(one for one in client.get("/queues").json() if one["name"] == name)


def test_a_queue_shows_its_lanes_depth_and_performers(admin, run):
    run([noop("a"), noop("b", queue="gpu", requires=["gpu >= 1"]), noop("c", queue="gpu")])
    beat("w1", labels={"gpu": 2})
    beat("w2", queues=["gpu"])
    beat("w3", queues=["default"])
    beat("w4", draining=True)
    beat("gone")
    Performer.objects.filter(name="gone").update(seen_at=database_now() - timedelta(hours=1))
    found = queue(admin, "gpu")
    assert (found["paused"], found["ready"], found["running"]) == (False, 2, 0)
    assert found["performers"] == ["w1", "w2"]
    by_key = {lane["key"].partition("~")[0] + str(lane["requires"]): lane for lane in found["lanes"]}
    assert by_key["gpu['gpu >= 1']"]["performers"] == ["w1"]
    assert by_key["gpu[]"]["performers"] == ["w1", "w2"]
    assert queue(admin, "default")["performers"] == ["w1", "w3"]
    claim(owner="w1", labels={"gpu": 2})
    assert (queue(admin, "gpu")["ready"], queue(admin, "gpu")["running"]) == (0, 2)


def test_a_paused_queue_gives_nothing_until_it_is_resumed(admin, run):
    run([noop("a"), noop("b", queue="gpu")])
    answer = admin.post("/queues/gpu/pause")
    assert (answer.status_code, answer.json()["paused"]) == (200, True)
    assert set(claim()) == {"a"}
    assert admin.post("/queues/gpu/pause").status_code == 200
    assert admin.post("/queues/gpu/resume").json()["paused"] is False
    assert set(claim()) == {"b"}


def test_the_default_queue_is_always_there(admin):
    assert queue(admin, "default")["lanes"][0]["key"] == "default"
    assert admin.post("/queues/default/pause").json()["paused"] is True
    assert Lane.objects.get(key="default").paused


@pytest.mark.parametrize("name", ["never", "%ED%A0%80", "x" * 300, "%27", "a%0Ab", "é", "gpu~1"])
def test_an_unknown_queue_is_a_404(admin, name):
    for verb in ("pause", "resume"):
        assert admin.post(f"/queues/{name}/{verb}").status_code in (400, 404)
    assert not Lane.objects.exists()


def test_workers_show_themselves(admin):
    beat("w1", labels={"gpu": 2}, queues=["gpu"], draining=True)
    beat("w2")
    first, second = admin.get("/workers").json()["results"]
    assert (first["name"], first["labels"], first["queues"], first["draining"]) == ("w1", {"gpu": 2}, ["gpu"], True)
    assert (second["kind"], second["slots"], second["load"], second["queues"]) == ("worker", 4, 0, None)
    page = admin.get("/workers?limit=1").json()
    assert [one["name"] for one in admin.get(page["next"]).json()["results"]] == ["w2"]
    assert admin.get("/workers?cursor=nonsense").status_code == 400


def test_a8_who_may_look_and_who_may_pause(callers, run):
    for name, client in callers(run([noop("a")])).items():
        may = name in ("admin", "system")
        assert client.get("/queues").status_code == (200 if may else 403), name
        assert client.get("/workers").status_code == (200 if may else 403), name
        for verb in ("pause", "resume"):
            assert client.post(f"/queues/default/{verb}").status_code == (200 if may else 403), name
    assert APIClient().get("/queues").status_code == 401
    assert APIClient().post("/queues/default/pause").status_code == 401
