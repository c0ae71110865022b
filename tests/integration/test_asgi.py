"""Requests under ASGI: a sync view costs one hop, keeps its thread's connection, and is framed as everywhere."""

import asyncio
import json
import threading

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.core.signals import request_finished, request_started
from django.db import connection
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

from apps.accounts import tokens
from apps.core.api import asgi
from orchestration.asgi import application

pytestmark = pytest.mark.django_db(transaction=True)

seen = []


def where(request):
    connection.ensure_connection()
    seen.append((threading.current_thread().name, id(connection.connection)))
    return HttpResponse("here")


async def in_the_loop(request):
    seen.append((threading.current_thread().name, None))
    return HttpResponse("loop")


def endless(request):
    async def parts():
        try:
            while True:
                yield b"more"
                await asyncio.sleep(0.01)
        finally:
            seen.append("ended")

    return StreamingHttpResponse(parts())


def fails(request):
    raise RuntimeError("a secret")


urlpatterns = [path("where", where), path("loop", in_the_loop), path("endless", endless), path("fails", fails)]
handler500 = "apps.core.api.problems.handler500"


@pytest.fixture
def routes(settings):
    seen.clear()
    settings.ROOT_URLCONF = __name__


async def asked(where, *, method="GET", headers=(), body=b""):
    """(status, headers, body)."""
    scope = {"type": "http", "http_version": "1.1", "method": method, "path": where, "query_string": b"",
             "headers": [(b"host", b"localhost"), *headers], "client": ("127.0.0.1", 1)}  # fmt: skip
    link = ApplicationCommunicator(application, scope)
    await link.send_input({"type": "http.request", "body": body})
    begun = await link.receive_output(20)
    text = b""
    while True:
        part = await link.receive_output(20)
        text += part.get("body", b"")
        if not part.get("more_body"):
            break
    await link.wait(20)
    return begun["status"], {name.decode().lower(): value.decode() for name, value in begun["headers"]}, text


async def test_a_sync_view_runs_in_a_thread_of_the_pool_that_keeps_its_connection(routes):
    for _ in range(5):
        assert (await asked("/where"))[2] == b"here"
    threads = {name for name, _ in seen}
    assert all(name.startswith("request") for name in threads)
    assert len({link for _, link in seen}) <= len(threads)


async def test_an_async_view_stays_in_the_loop(routes):
    assert (await asked("/loop"))[2] == b"loop"
    assert seen == [(threading.current_thread().name, None)]


async def test_an_error_is_a_problem_and_tells_nothing(routes, settings):
    status, headers, body = await asked("/fails")
    assert (status, headers["content-type"]) == (500, "application/problem+json")
    assert b"secret" not in body
    assert headers["x-request-id"] == json.loads(body)["request_id"]


async def test_what_is_streamed_ends_when_the_peer_leaves(routes):
    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/endless", "query_string": b"",
             "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1)}  # fmt: skip
    link = ApplicationCommunicator(application, scope)
    await link.send_input({"type": "http.request", "body": b""})
    for _ in range(3):
        await link.receive_output(20)
    await link.send_input({"type": "http.disconnect"})
    await link.wait(20)
    assert seen == ["ended"]


async def test_signals_of_a_request_are_sent_once_each_in_its_thread(routes):
    heard = []
    started = lambda **_: heard.append(("started", threading.current_thread().name))  # noqa: E731
    finished = lambda **_: heard.append(("finished", threading.current_thread().name))  # noqa: E731
    request_started.connect(started)
    request_finished.connect(finished)
    try:
        await asked("/where")
    finally:
        request_started.disconnect(started)
        request_finished.disconnect(finished)
    assert [what for what, _ in heard] == ["started", "finished"]
    assert {name for _, name in heard} == {seen[0][0]}


async def test_the_api_answers_with_its_frame(make_user):
    user = await sync_to_async(make_user)("agent")
    token = (await sync_to_async(tokens.issue)(user)).access_token
    body = json.dumps({"workflow_id": "t", "percent_complete": 5, "status": "in_progress"}).encode()
    bearer = (b"authorization", f"Bearer {token}".encode())
    kind, length = (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())
    status, headers, told = await asked("/progress/update", method="POST", headers=[bearer, kind, length], body=body)
    assert (status, json.loads(told)["percent_complete"]) == (200, 5)
    assert headers["x-content-type-options"] == "nosniff"
    assert (await asked("/progress/t", headers=[bearer]))[0] == 200
    assert (await asked("/progress/t"))[0] == 401
    assert (await asked("/nowhere"))[0] == 404
    assert (await asked("/static/ui/platform.css"))[0] == 200


async def test_more_requests_than_threads_all_get_their_answer(routes):
    answers = await asyncio.gather(*(asked("/where") for _ in range(3 * asgi.THREADS)))
    assert {answer[2] for answer in answers} == {b"here"}


@pytest.mark.parametrize("headers", [[(b"content-length", b"x")], [(b"host", b"evil.example")]])
async def test_what_cannot_be_read_is_a_400(routes, headers):
    assert (await asked("/where", headers=headers))[0] == 400
