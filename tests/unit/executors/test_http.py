"""Requests over the wire to a server of our own: what is sent, what is recorded, and how it fails."""

import asyncio
import base64
import gzip
import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from apps.executors import Options, StepCall
from apps.executors.http import HttpExecutor
from tests.unit.executors.http_server import Server, as_json, to


@pytest.fixture(name="server")
async def http_server():
    made = Server()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture(name="perform")
async def http_perform(tmp_path, sink):
    """`result = await perform(url, method="POST", …)`; loopback is allowed unless `allowed` says otherwise."""
    executors = []

    async def run(url, *, allowed=("127.0.0.1",), limit=10_000, files=1 << 30, **config):
        options = Options(
            process_steps="off", work_dir=tmp_path, http_allowed_hosts=frozenset(allowed), max_output_bytes=limit,
            max_artifact_bytes=files,
        )  # fmt: skip
        executors.append(HttpExecutor(options))
        call = replace(http_call({"url": url, **config}), artifacts=str(tmp_path / "artifacts"))
        return await executors[-1].run(call, sink)

    yield run
    for executor in executors:
        await executor.close()


def http_call(config) -> StepCall:
    return StepCall(
        kind="http",
        config=config,
        attempt=2,
        task_key="task-7",
        attempt_key="task-7:2",
        workflow_id="daily",
        execution_id="run-1",
        step_id="fetch",
    )


async def test_an_answer_in_json_is_a_value(perform, server, sink):
    server.answers["/a?token=hidden"] = (200, {"Content-Type": "application/problem+json", "Set-Cookie": "a=b"}, b"[1]")
    result = await perform(server.url("/a?token=hidden"))
    assert result.error is None
    assert result.outputs["status"] == 200
    assert result.outputs["json"] == [1]
    assert "text" not in result.outputs
    assert result.outputs["headers"] == {"content-type": "application/problem+json", "content-length": "3"}
    assert "/a -> 200" in sink.text()
    assert "hidden" not in sink.text()


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("text/plain", b'{"a": 1}', '{"a": 1}'),
        ("application/json", b'{"a": NaN}', '{"a": NaN}'),
        ("application/json", b"{", "{"),
        ("text/html; charset=latin-1", b"caf\xe9", "café"),
        ("text/html; charset=no-such", b"caf\xc3\xa9\x00", "café"),
        ("text/plain", b"\xff", "\ufffd"),
    ],
)
async def test_any_other_answer_is_text(perform, server, kind, body, text):
    server.answers["/"] = (200, {"content-type": kind}, body)
    result = await perform(server.url())
    assert (result.outputs["text"], "json" in result.outputs) == (text, False)


async def test_a_body_is_sent_as_json_and_the_task_is_named(perform, server):
    await perform(server.url(), method="POST", body={"a": [1, "é"]}, headers={"X-N": 5})
    asked = server.asked[0]
    assert (asked.method, asked.body) == ("POST", '{"a": [1, "é"]}'.encode())
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["idempotency-key"] == "task-7"
    assert asked.headers["x-n"] == "5"


async def test_what_the_step_says_wins(perform, server):
    headers = {"Content-Type": "text/csv", "Idempotency-Key": "mine", "User-Agent": "me"}
    await perform(server.url(), method="PUT", body="a,b", headers=headers)
    asked = server.asked[0]
    assert asked.body == b"a,b"
    assert (asked.headers["content-type"], asked.headers["idempotency-key"]) == ("text/csv", "mine")
    assert asked.headers["user-agent"] == "me"


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        (400, False),
        (401, False),
        (404, False),
        (304, False),
        (408, True),
        (425, True),
        (429, True),
        (500, True),
        (503, True),
    ],
)
async def test_an_unexpected_status_fails(perform, server, status, retryable):
    server.answers["/"] = (status, {}, b"" if status == 304 else b"because\x00 of you")
    error = (await perform(server.url())).error
    assert (error.type, error.retryable) == ("http_status", retryable)
    assert str(status) in error.message
    assert status == 304 or "because of you" in error.message


async def test_expected_statuses_are_the_authors(perform, server):
    server.answers["/"] = as_json({"gone": True}, 404)
    assert (await perform(server.url(), expect=[404])).outputs["json"] == {"gone": True}
    assert (await perform(server.url("/fine"), expect=[404])).error.type == "http_status"


async def test_an_answer_that_is_too_long_is_not_read_on(perform, server):
    server.answers["/"] = (200, {}, b"x" * 20_000)
    error = (await perform(server.url())).error
    assert (error.type, error.retryable) == ("output", False)
    server.answers["/"] = (200, {}, b"x" * 9_000)
    assert len((await perform(server.url())).outputs["text"]) == 9_000
    server.answers["/"] = (200, {}, b'"\\' * 4_900)  # within the limit, and beyond it once it is JSON
    assert (await perform(server.url())).error.type == "output"


async def test_a_compressed_bomb_ends_at_the_limit(perform, server):
    server.answers["/bomb"] = (200, {"content-encoding": "gzip"}, gzip.compress(b"\0" * 50_000_000))
    server.answers["/fine"] = (200, {"content-encoding": "gzip"}, gzip.compress(b"hello"))
    server.answers["/broken"] = (200, {"content-encoding": "gzip"}, b"hello")
    server.answers["/strange"] = (200, {"content-encoding": "br"}, b"hello")
    assert (await perform(server.url("/bomb"))).error.type == "output"
    assert (await perform(server.url("/fine"))).outputs["text"] == "hello"
    assert (await perform(server.url("/broken"))).error.type == "connection"
    assert (await perform(server.url("/strange"))).error.type == "output"


async def test_connections_that_fail_may_be_tried_again(perform, server):
    closed = Server()
    await closed.start()
    await closed.stop()
    for url in (closed.url(), server.url("/hangup")):
        error = (await perform(url)).error
        assert (error.type, error.retryable) == ("connection", True)
    error = (await perform("http://no-such-host.invalid/")).error
    assert (error.type, error.retryable) == ("connection", True)


async def test_a_cancel_hangs_up(perform, server):
    asking = asyncio.create_task(perform(server.url("/hang")))
    async with asyncio.timeout(10):
        while not server.connections:
            await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert server.connections == 1


@pytest.mark.parametrize(
    "config",
    [
        {"url": "ftp://example.com/"},
        {"url": "file:///etc/passwd"},
        {"url": "/relative"},
        {"url": "http://"},
        {"url": "http://a b/"},
        {"url": "http://example.com:99999/"},
        {"url": "http://[::1/"},
        {"url": 5},
        {"method": "CONNECT"},
        {"headers": {"Host": "internal"}},
        {"headers": {"Content-Length": "5"}},
        {"headers": {"X": "a\r\nY: b"}},
        {"headers": {"X Y": "a"}},
        {"body": {"a": float("nan")}},
        {"expect": [9]},
        {"timeout": 5},
    ],
)
async def test_a_configuration_that_makes_no_sense_is_not_tried(perform, server, config):
    error = (await perform(**{"url": server.url(), **config})).error
    assert (error.type, error.retryable) == ("invalid", False)
    assert server.connections == 0


async def test_redirects_are_followed_five_times(perform, server):
    for number in range(7):
        server.answers[f"/{number}"] = to(server.url(f"/{number + 1}"))
    assert (await perform(server.url("/2"))).outputs["json"] == {"ok": True}
    error = (await perform(server.url("/1"))).error
    assert (error.type, error.retryable) == ("http_status", False)
    assert (await perform(server.url("/1"), expect=[302])).outputs["headers"]["location"] == server.url("/2")


async def test_headers_stay_with_the_host_they_were_written_for(perform, server):
    other = Server()
    await other.start()
    server.answers["/"] = to(other.url("/there"), 307)
    server.answers["/same"] = to("/here", 307)
    headers = {"X-Api-Key": "secret", "Authorization": "Bearer secret", "Cookie": "secret", "Accept": "text/csv"}
    await perform(server.url(), method="POST", body={"a": 1}, headers=headers)
    assert not [name for name, value in other.asked[0].headers.items() if "secret" in value]
    assert (other.asked[0].headers["accept"], other.asked[0].body) == ("text/csv", b'{"a": 1}')
    await perform(server.url("/same"), headers=headers)
    assert server.asked[-1].headers["x-api-key"] == "secret"
    await other.stop()


async def test_nothing_is_remembered_between_steps(perform, server):
    server.answers["/"] = (200, {"set-cookie": "session=1; Path=/"}, b"")
    await perform(server.url())
    await perform(server.url())
    assert "cookie" not in server.asked[1].headers


async def test_proxies_of_the_environment_are_not_used(perform, server, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await perform(server.url())).error is None


async def test_a_bearer_token_and_a_password_are_sent_and_told_to_nobody(perform, server, sink):
    await perform(server.url(), auth={"bearer": "top-secret"})
    await perform(server.url(), auth={"username": "ann", "password": "grün: ß"}, headers={"Authorization": "Basic x"})
    assert [asked.headers["authorization"] for asked in server.asked] == [
        "Bearer top-secret",
        "Basic " + base64.b64encode("ann:grün: ß".encode()).decode(),
    ]
    server.answers["/no"] = (401, {}, b"who are you?")
    error = (await perform(server.url("/no"), auth={"bearer": "top-secret"})).error
    assert "top-secret" not in error.message + sink.text()


@pytest.mark.parametrize(
    "auth", [{}, {"password": "x"}, {"bearer": "a", "username": "b"}, {"username": "a:b"}, {"bearer": "a\nb: c"}]
)
async def test_a_credential_that_makes_no_sense_is_named_and_not_shown(perform, server, auth):
    error = (await perform(server.url(), auth=auth)).error
    assert (error.type, error.retryable) == ("invalid", False)
    assert error.message.startswith("http.auth")
    assert "b: c" not in error.message
    assert server.connections == 0


async def test_a_credential_goes_with_no_redirect_to_another_origin(perform, server):
    other = Server()
    await other.start()
    server.answers["/away"], server.answers["/near"] = to(other.url()), to("/")
    await perform(server.url("/away"), auth={"bearer": "top-secret"})
    assert "authorization" not in other.asked[0].headers
    await perform(server.url("/near"), auth={"bearer": "top-secret"})
    assert server.asked[-1].headers["authorization"] == "Bearer top-secret"
    await other.stop()


@pytest.mark.parametrize(
    ("status", "asked", "seconds"),
    [
        (429, "120", 120.0),
        (503, " 7 ", 7.0),
        (503, "Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        (503, "soon", None),
        (503, "-5", None),
        (503, "", None),
        (404, "120", None),  # it is not tried again at all
    ],
)
async def test_retry_after_is_passed_on(perform, server, status, asked, seconds):
    server.answers["/"] = (status, {"Retry-After": asked}, b"")
    assert (await perform(server.url())).error.retry_after == seconds


async def test_retry_after_may_be_a_date(perform, server):
    at = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    server.answers["/"] = (503, {"Retry-After": at}, b"")
    assert 3_500 < (await perform(server.url())).error.retry_after <= 3_600


# -- to a file ---------------------------------------------------------------------------------------------------------


async def test_an_answer_is_streamed_to_an_artifact(perform, server, tmp_path):
    """Longer than outputs may be, and never whole in memory."""
    body = bytes(range(256)) * 4_000
    server.answers["/big"] = (200, {"Content-Type": "application/octet-stream"}, body)
    result = await perform(server.url("/big"), artifact="exports/big.bin", limit=1_000)
    assert result.error is None
    digest = hashlib.sha256(body).hexdigest()
    assert result.outputs["artifact"] == {"name": "exports/big.bin", "size": len(body), "sha256": digest}
    assert "text" not in result.outputs
    assert (tmp_path / "artifacts" / "exports" / "big.bin").read_bytes() == body


async def test_a_compressed_answer_is_unpacked_into_its_file_and_a_bomb_ends_at_the_limit(perform, server, tmp_path):
    server.answers["/zip"] = (200, {"Content-Encoding": "gzip"}, gzip.compress(b"x" * 3_000_000))
    result = await perform(server.url("/zip"), artifact="a.txt", files=3_000_000)
    assert result.outputs["artifact"]["size"] == 3_000_000
    assert (tmp_path / "artifacts" / "a.txt").read_bytes() == b"x" * 3_000_000
    (tmp_path / "artifacts" / "a.txt").unlink()
    error = (await perform(server.url("/zip"), artifact="a.txt", files=2_999_999)).error
    assert (error.type, error.retryable) == ("output", False)
    assert "2999999 bytes" in error.message
    assert list((tmp_path / "artifacts").iterdir()) == [], "nothing is left of what did not end"


async def test_an_answer_that_breaks_off_leaves_no_file(perform, server, tmp_path):
    server.answers["/short"] = (200, {"content-length": "1000"}, b"only this")
    error = (await perform(server.url("/short"), artifact="a.txt")).error
    assert (error.type, error.retryable) == ("connection", True)
    assert list((tmp_path / "artifacts").iterdir()) == []


async def test_an_unexpected_status_is_no_file(perform, server, tmp_path):
    server.answers["/gone"] = (410, {}, b"it was here")
    error = (await perform(server.url("/gone"), artifact="a.txt")).error
    assert (error.type, error.message.endswith("answered 410: it was here")) == ("http_status", True)
    assert not (tmp_path / "artifacts").exists()


async def test_a_file_that_cannot_be_written_is_told(perform, server, monkeypatch):
    server.answers["/a"] = (200, {}, b"text")

    async def full(function, *_, **__):
        if function.__name__ == "write":
            raise OSError(28, "No space left on device")
        Path.mkdir(function.__self__, parents=True, exist_ok=True)

    monkeypatch.setattr("apps.executors.http_answer.asyncio.to_thread", full)
    error = (await perform(server.url("/a"), artifact="a.txt")).error
    assert (error.type, error.retryable) == ("output", True)
    assert "No space left on device" in error.message


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../a", "a/../b", "a//b", "a/", ".", "a\0b", "x" * 256])
async def test_the_name_of_a_file_leads_nowhere_else(perform, server, name):
    error = (await perform(server.url("/a"), artifact=name)).error
    assert (error.type, error.retryable) == ("invalid", False)
    assert "http.artifact" in error.message
    assert server.asked == []
