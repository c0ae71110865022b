"""Artifacts: kept once by content, under a lease, within quotas; downloaded by part; large outputs spilled."""

import io
import json
import os
from datetime import timedelta
from pathlib import Path

import boto3
import pytest
from asgiref.sync import async_to_sync
from moto.server import ThreadedMotoServer

from apps.core.clock import database_now
from apps.core.errors import Conflict, Full, TooLarge
from apps.executors import Executors, StepCall, StepResult
from apps.vault import blobs, stores
from apps.vault.models import Blob
from apps.workers import files
from apps.workflows.models import Artifact, Execution, Task
from apps.workflows.selectors.performing import executor_options
from apps.workflows.services import artifacts, executions, retention, spilling, workflows
from tests.integration.conftest import noop
from tests.integration.workflows.driver import accepted, claim, done

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def s3():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
    ).create_bucket(Bucket="files")
    yield f"s3://k:s@files/some/where?endpoint={endpoint}&region=us-east-1"
    server.stop()


@pytest.fixture(params=["directory", "s3"])
def storage(request, settings, tmp_path):
    url = request.getfixturevalue("s3") if request.param == "s3" else f"file://{tmp_path}/blobs"
    settings.ENV = settings.ENV.model_copy(update={"ARTIFACT_STORAGE_URL": url})
    return stores.store()


@pytest.fixture
def task(make_workflow, owner):
    executions.start(make_workflow([noop("a"), noop("b", "a")]), by=owner)
    return claim()["a"]


def left(name, content=b"hello", **values):
    content_type = values.pop("content_type", "text/plain")
    return artifacts.Left(name=name, source=io.BytesIO(content), size=len(content), content_type=content_type, **values)


def keep(task, *lefts):
    return artifacts.keep(task.execution_id, task.task_id, task.fence, lefts)


# --- kept -------------------------------------------------------------------------------------------------------------


def test_the_same_bytes_are_kept_once_and_read_by_part(storage):
    content = os.urandom(700_000)
    first, second = blobs.keep(io.BytesIO(content)), blobs.keep(io.BytesIO(content))
    assert (first.digest, first.size) == (second.digest, 700_000)
    assert Blob.objects.count() == 1
    assert b"".join(blobs.read(first.digest, 0, 700_000)) == content
    assert b"".join(blobs.read(first.digest, 5, 300_000)) == content[5:300_005]
    assert b"".join(blobs.read(first.digest, 699_999, 1)) == content[-1:]
    storage.delete(first.digest)
    assert storage.size(first.digest) is None
    with pytest.raises(FileNotFoundError):
        list(blobs.read(first.digest, 0, 1))
    storage.delete(first.digest)


def test_a_blob_that_was_cut_short_is_written_again(settings, tmp_path):
    settings.ENV = settings.ENV.model_copy(update={"ARTIFACT_STORAGE_URL": f"file://{tmp_path}"})
    blob = blobs.keep(io.BytesIO(b"whole"))
    path = tmp_path / blob.digest[:2] / blob.digest
    path.write_bytes(b"wh")
    blobs.keep(io.BytesIO(b"whole"))
    assert path.read_bytes() == b"whole"


def test_only_the_present_lease_leaves_artifacts(task):
    (kept,) = keep(task, left("a.txt"))
    assert (kept.size, Task.objects.get(pk=task.task_id).artifacts.get().name) == (5, "a.txt")
    with pytest.raises(Conflict) as refusal:
        artifacts.keep(task.execution_id, task.task_id, task.fence + 1, [left("b.txt")])
    assert refusal.value.code == "stale_attempt"
    accepted(done(task))
    with pytest.raises(Conflict):
        keep(task, left("c.txt"))
    assert Artifact.objects.count() == 1


def test_quotas_are_named(task, set_env):
    """Over HTTP they are 413 and 507: tests/integration/agents/test_files.py."""
    set_env(ARTIFACT_EXECUTION_BYTES=9)
    keep(task, left("a.txt"))
    with pytest.raises(TooLarge, match="ARTIFACT_EXECUTION_BYTES"):
        keep(task, left("b.txt"))
    set_env(ARTIFACT_EXECUTION_BYTES=1000, ARTIFACT_TOTAL_BYTES=9)
    with pytest.raises(Full, match="ARTIFACT_TOTAL_BYTES"):
        keep(task, left("b.txt", b"other"))
    assert Artifact.objects.count() == 1


def test_a_full_disk_is_told_and_leaves_nothing(task, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stores.Directory, "put", full)
    with pytest.raises(Full, match="disk"):
        keep(task, left("a.txt", b"never kept"))
    assert not Artifact.objects.exists()


# --- downloaded -------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(client_of, owner):
    return client_of(owner)


def body(answer):
    async def read():
        return b"".join([piece async for piece in answer])

    return async_to_sync(read)()


def test_files_are_listed_and_downloaded(task, client):
    keep(task, left("plots/a b.txt", b"0123456789"))
    (row,) = client.get(f"/executions/{task.execution_id}/artifacts").data["results"]
    assert (row["name"], row["step_id"], row["attempt"], row["size"]) == ("plots/a b.txt", "a", 1, 10)
    url = f"/executions/{task.execution_id}/artifacts/{row['id']}"
    answer = client.get(url)
    assert body(answer) == b"0123456789"
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["Content-Disposition"] == 'attachment; filename="a b.txt"'
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer["Content-Security-Policy"]
    again = client.get(url, headers={"If-None-Match": answer["ETag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    ("asked", "status", "expected", "told"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=0-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
        ("bytes=4-2", 416, b"", "bytes */10"),
        ("bytes=1-2,4-5", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
        ("bytes=" + "9" * 40 + "-", 200, b"0123456789", None),
    ],
)
def test_by_part(task, client, asked, status, expected, told):
    (kept,) = keep(task, left("a.txt", b"0123456789"))
    answer = client.get(f"/executions/{task.execution_id}/artifacts/{kept.pk}", headers={"Range": asked})
    assert (answer.status_code, answer.headers.get("Content-Range")) == (status, told)
    assert (body(answer) if status != 416 else b"") == expected


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript", "a\r\nb"])
def test_what_a_browser_would_execute_is_bytes(task, client, kind):
    (kept,) = keep(task, left('x".html', b"<script>", content_type=kind))
    answer = client.get(f"/executions/{task.execution_id}/artifacts/{kept.pk}")
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Disposition"].startswith("attachment")


def test_an_artifact_is_found_in_its_own_execution_only(task, client, make_workflow, owner):
    (kept,) = keep(task, left("a.txt"))
    other = executions.start(make_workflow([noop("a")]), by=owner)
    assert client.get(f"/executions/{other.pk}/artifacts/{kept.pk}").status_code == 404
    assert client.get(f"/executions/{task.execution_id}/artifacts/{'-' * 36}").status_code == 404


# --- left by steps ----------------------------------------------------------------------------------------------------


async def attempt(task, result=None):
    executors = Executors(executor_options())
    call = StepCall(
        kind=task.kind, config=task.config, stdin=task.stdin, attempt=task.fence, task_key=str(task.task_id),
        attempt_key=f"{task.task_id}:{task.fence}", workflow_id="w", execution_id=str(task.execution_id),
        step_id=task.step_id, artifacts=executors.artifacts_of(f"{task.task_id}:{task.fence}"),
    )  # fmt: skip
    try:
        filled = await files.given(call)
        if not isinstance(filled, StepCall):
            return StepResult(error=filled)
        sink = type("Nowhere", (), {"log": lambda *_: None, "progress": lambda *_: None})()
        result = result or await executors.get(task.kind).run(filled, sink)
        return await files.left(task, call, result)
    finally:
        assert not Path(call.artifacts).is_dir()
        await executors.close()


perform = async_to_sync(attempt)


@pytest.fixture
def begin(transactional_db, make_workflow, owner):
    def go(*steps, **values):
        return executions.start(make_workflow(list(steps), **values), by=owner)

    return go


@pytest.mark.django_db(transaction=True)
def test_a_command_leaves_the_files_of_its_directory(begin):
    script = (
        'cd "$ORCHESTRATION_ARTIFACTS"; mkdir -p plots; echo a > plots/a.csv; echo "<b>" > page.html;'
        "ln -s /etc/passwd link; mkfifo pipe"
    )
    begin({"id": "a", "command": ["sh", "-c", script]})
    assert perform(claim()["a"]).error is None
    found = dict(Artifact.objects.values_list("name", "content_type"))
    assert found == {"plots/a.csv": "text/csv", "page.html": "text/html"}, "neither links nor pipes"


@pytest.mark.django_db(transaction=True)
def test_a_callable_leaves_files_through_its_context(begin, tmp_path, monkeypatch, set_env):
    (tmp_path / "leaves_files.py").write_text(
        "def report(context):\n"
        "    context.artifact('report.json', '{}')\n"
        "    context.artifact('plots/big.bin').write_bytes(b'x' * 100_000)\n"
        "    try:\n"
        "        context.artifact('../out')\n"
        "    except ValueError as wrong:\n"
        "        return {'refused': str(wrong)}\n"
        "async def inside(context):\n"
        "    context.artifact('inside.txt', b'bytes')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    set_env(CALLABLE_MODULES=("leaves_files",))
    from apps.workflows.selectors.performing import executors

    executors.cache_clear()
    begin({"id": "a", "python": "leaves_files.report"}, {"id": "b", "python": "leaves_files.inside"})
    tasks = claim()
    assert "is no name of an artifact" in perform(tasks["a"]).outputs["refused"]
    assert perform(tasks["b"]).error is None
    assert set(Artifact.objects.values_list("name", "size")) == {
        ("report.json", 2), ("plots/big.bin", 100_000), ("inside.txt", 5)
    }  # fmt: skip
    executors.cache_clear()


@pytest.mark.django_db(transaction=True)
def test_what_is_over_the_quota_fails_the_step_by_name(begin, set_env):
    set_env(ARTIFACT_EXECUTION_BYTES=10)
    begin({"id": "a", "command": ["sh", "-c", 'head -c 11 /dev/zero > "$ORCHESTRATION_ARTIFACTS/x"']})
    result = perform(claim()["a"])
    assert (result.error.type, result.error.retryable) == ("output", False)
    assert "ARTIFACT_EXECUTION_BYTES" in result.error.message
    assert not Artifact.objects.exists()


# --- large outputs ----------------------------------------------------------------------------------------------------

ECHO = {"id": "b", "depends_on": ["a"], "python": {"call": "builtin.echo", "with": {"v": "${steps.a.outputs.big}"}}}
COUNT = {"id": "c", "depends_on": ["a"], "command": ["wc", "-c"]}


@pytest.mark.django_db(transaction=True)
def test_a_large_value_is_spilled_and_read_by_dependants(begin, storage, set_env, client_of, owner):
    set_env(OUTPUT_INLINE_BYTES=4096, ARTIFACT_STORAGE_URL="")
    execution = begin(noop("a"), ECHO, outputs=[{"name": "big", "value": "${steps.a.outputs.big}"}])
    first = claim()["a"]
    big = [{"n": number, "ü": "x" * 10} for number in range(1000)]
    result = perform(first, StepResult(outputs={"big": big, "small": 1}))
    assert result.outputs["small"] == 1
    assert set(result.outputs["big"]) == {"spilled_to", "size", "content_type"}
    accepted(done(first, **result.outputs))
    second = claim()["b"]
    assert len(json.dumps(second.config)) < 500, "the ledger hands on the reference"
    echoed = perform(second, None)
    assert set(echoed.outputs["v"]) == {"spilled_to", "size", "content_type"}, "what it returns is large again"
    (row, again) = Artifact.objects.order_by("pk")
    assert (row.name, row.spilled, row.blob_id) == ("outputs/big.json", True, again.blob_id)
    answer = client_of(owner).get(f"/executions/{execution.pk}/artifacts/{row.pk}")
    assert json.loads(body(answer)) == big
    accepted(done(second))
    execution.refresh_from_db()
    assert execution.outputs["big"]["size"] == row.size


@pytest.mark.django_db(transaction=True)
def test_a39_an_output_of_100_mb_is_spilled_and_read_from_standard_input(begin):
    """Through the executors themselves: a command writes it, the next one reads it."""
    size = 100 * 2**20
    script = f"head -c {size} /dev/zero | tr '\\0' x"
    begin({"id": "a", "command": ["sh", "-c", script]}, COUNT)
    first = claim()["a"]
    result = perform(first)
    assert result.error is None
    assert "stdout_truncated" not in result.outputs
    assert result.outputs["stdout"]["size"] == size
    assert len(json.dumps(result.outputs)) < 500
    accepted(done(first, **result.outputs))
    assert perform(claim()["c"]).outputs["stdout"].strip() == str(size)
    print(f"A39: {size:,} bytes of output, {len(json.dumps(result.outputs))} bytes in the row")


@pytest.mark.django_db(transaction=True)
def test_a39_more_than_may_be_returned_at_all_is_cut_and_said_to_be(begin, set_env):
    set_env(OUTPUT_MAX_BYTES=100_000, OUTPUT_INLINE_BYTES=4096)
    begin({"id": "a", "command": ["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x"]})
    outputs = perform(claim()["a"]).outputs
    assert outputs["stdout_truncated"] is True
    assert outputs["stdout"]["size"] < 100_000


@pytest.mark.django_db(transaction=True)
def test_a_reference_to_what_is_not_this_workflows_is_refused(begin, owner):
    begin(noop("a"))
    foreign = claim()["a"]
    keep(foreign, left("x", b"of others", spilled=True))
    reference = {"spilled_to": Artifact.objects.get().blob_id, "size": 9, "content_type": "text/plain"}
    forged = {"id": "f", "python": {"call": "builtin.echo", "with": {"v": reference}}}
    executions.start(workflows.create({"name": "thief", "steps": [forged]}, by=owner), by=owner)
    result = perform(claim()["f"])
    assert (result.error.type, result.error.retryable) == ("invalid", False)
    assert "of others" not in str(result)


@pytest.mark.django_db(transaction=True)
def test_a_retry_keeps_what_it_uses_again(begin, set_env, owner):
    set_env(OUTPUT_INLINE_BYTES=4096)
    execution = begin(noop("a"), {"id": "b", "depends_on": ["a"], "command": ["false"]}, ECHO | {"id": "e"})
    tasks = claim()
    result = perform(tasks["a"], StepResult(outputs={"big": "y" * 9000}))
    accepted(done(tasks["a"], **result.outputs))
    executions.cancel(execution, by=owner)
    execution.refresh_from_db()
    again = executions.retry(execution, by=owner)
    Execution.objects.filter(pk=execution.pk).delete()
    assert Artifact.objects.get().execution_id == again.pk
    assert perform(claim()["e"]).outputs["v"]["size"] == 9000


def test_small_outputs_are_left_alone_without_writing_them():
    assert spilling.is_small({}, 4096)
    assert spilling.is_small({"a": [1, {"b": "x" * 600}], "c": None}, 4096)
    assert not spilling.is_small({"a": "x" * 5000}, 4096)
    assert not spilling.is_small({"a": list(range(5000))}, 4096)
    assert spilling.is_small({"a": list(range(300))}, 4096)


def test_many_small_values_are_an_error_that_says_so():
    with pytest.raises(TooLarge, match="many small values"):
        spilling.spill({f"key-{number}": "x" * 100 for number in range(100)}, 4096)


# --- collected --------------------------------------------------------------------------------------------------------


def test_blobs_go_when_nothing_refers_to_them_and_not_while_they_come(storage, task):
    keep(task, left("a.txt", b"of the execution"))
    fresh = blobs.keep(io.BytesIO(b"just coming"))
    now = database_now()
    later = now + timedelta(hours=2)
    assert retention.count(now).get("vault_blob", 0) == 0
    Blob.objects.filter(pk=fresh.pk).update(touched_at=later)
    list(artifacts.RULE.batches(later))
    assert Blob.objects.count() == 2, "one is referred to, one was touched"
    Artifact.objects.all().delete()
    assert artifacts.RULE.count(later) == {"vault_blob": 1}
    assert list(artifacts.RULE.batches(later)) == [{"vault_blob": 1}]
    assert Blob.objects.get().pk == fresh.pk
    assert storage.size(fresh.digest) == 11


def test_a_storage_that_does_not_answer_keeps_the_row(task, monkeypatch):
    blob = blobs.keep(io.BytesIO(b"x"))

    def broken(*_):
        raise OSError("no answer")

    monkeypatch.setattr(stores.Directory, "delete", broken)
    assert list(artifacts.RULE.batches(database_now() + timedelta(hours=2))) == []
    assert Blob.objects.filter(pk=blob.pk).exists()


def test_artifacts_go_with_their_execution(task):
    keep(task, left("a.txt"))
    executions.cancel(Execution.objects.get(pk=task.execution_id), by=None)
    Execution.objects.filter(pk=task.execution_id).delete()
    assert not Artifact.objects.exists()
