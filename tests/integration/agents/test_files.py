"""Files that agents send, beyond what there is room for: 413 and 507 over HTTP, by the route that takes files."""

import pytest

from apps.workflows.models import Artifact

pytestmark = pytest.mark.django_db


@pytest.fixture
def send(agent, started):
    """`answer = send("a.txt", b"hello")`, for one claimed task."""
    started()
    (task,) = agent.claim()
    url = f"/agents/{agent.agent.pk}/tasks/{task['task_id']}/artifacts"

    def post(name, body):
        return agent.client.post(f"{url}?attempt=1&name={name}", body, "text/plain")

    return post


def refused(answer):
    told = answer.json()
    assert answer["Content-Type"] == "application/problem+json"
    return answer.status_code, told["code"], told["detail"]


def test_a39_more_than_the_quotas_is_413_and_507_and_names_the_setting(send, set_env):
    set_env(ARTIFACT_EXECUTION_BYTES=9)
    assert send("a.txt", b"hello").status_code == 201
    status, code, detail = refused(send("b.txt", b"hello"))
    assert (status, code) == (413, "artifacts_too_large")
    assert "ARTIFACT_EXECUTION_BYTES" in detail
    set_env(ARTIFACT_EXECUTION_BYTES=1000, ARTIFACT_TOTAL_BYTES=9)
    status, code, detail = refused(send("b.txt", b"other"))
    assert (status, code) == (507, "artifact_storage_full")
    assert "ARTIFACT_TOTAL_BYTES" in detail
    set_env(ARTIFACT_TOTAL_BYTES=10)
    assert send("b.txt", b"other").status_code == 201, "the control: what there is room for is kept"
    assert dict(Artifact.objects.values_list("name", "size")) == {"a.txt": 5, "b.txt": 5}


def test_a39_a_full_disk_is_507_and_leaves_nothing(send, small_disk):
    assert send("a.txt", bytes(400_000)).status_code == 201, "the control"
    status, code, detail = refused(send("b.txt", bytes(range(256)) * 4_000))
    assert (status, code) == (507, "disk_full")
    assert "disk" in detail
    assert [path.stat().st_size for path in small_disk.rglob("*") if path.is_file()] == [400_000]
    assert send("c.txt", bytes(300_000)).status_code == 201, "it goes on"
    assert set(Artifact.objects.values_list("name", flat=True)) == {"a.txt", "c.txt"}
