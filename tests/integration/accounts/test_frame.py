"""The frame around every answer: request id, headers, problems, bounded bodies, pages of lists."""

import asyncio
import json
import re
import time
import uuid

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from apps.accounts.api.authentication import BearerAuthentication
from apps.accounts.api.docs import DocsView
from apps.accounts.models import Role, User
from apps.core.api.middleware import CONTENT_SECURITY_POLICY

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.accounts.urls")]

MEMBERS = {"type", "title", "status", "code", "detail", "errors", "request_id"}


def assert_problem(answer, status, code):
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = json.loads(answer.content)
    assert body.keys() >= MEMBERS
    assert (body["status"], body["code"]) == (status, code)
    assert body["request_id"] == answer.headers["X-Request-ID"]
    return body


@pytest.mark.parametrize("given", ["abcDEF-12345678", "0" * 64])
def test_a_harmless_request_id_is_kept(http, given):
    assert http.get("/nowhere", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "short", "x" * 65, "a b c d e f g", "abc\u2028defgh", "<script>aaa"])
def test_a25_any_other_request_id_is_replaced(http, given):
    answer = http.get("/nowhere", headers={"X-Request-ID": given})
    assert str(uuid.UUID(answer.headers["X-Request-ID"])) == answer.headers["X-Request-ID"]


def test_a24_every_answer_carries_the_policy(http):
    for path in ("/nowhere", "/auth/me", "/broken", "/admin/login/"):
        headers = http.get(path).headers
        assert headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
    assert "unsafe" not in CONTENT_SECURITY_POLICY


def test_unknown_routes_are_problems(http):
    assert_problem(http.get("/nowhere"), 404, "not_found")


@pytest.mark.parametrize("path", ["/broken", "/async-broken", "/drf-broken"])
def test_a34_an_unforeseen_error_discloses_nothing(http, make_user, bearer, path):
    make_user("ann", "user")
    answer = http.get(path, headers=bearer("ann"))
    body = assert_problem(answer, 500, "internal_error")
    assert set(body) == MEMBERS
    text = answer.content.decode()
    for secret in ("SELECT", "hunter2", "Traceback", "RuntimeError", ".py", "Django"):
        assert secret not in text


def test_a34_the_traceback_is_in_the_log_under_the_request_id(http, caplog):
    with caplog.at_level("ERROR", logger="django.request"):
        answer = http.get("/broken", headers={"X-Request-ID": "report-me-123"})
    assert answer.json()["request_id"] == "report-me-123"
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("path", ["/conflict", "/async-conflict"])
def test_errors_of_ours_rise_out_of_plain_views(http, path):
    body = assert_problem(http.get(path), 409, "invalid_transition")
    assert body["allowed_actions"] == ["retry"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/conflict", 409, "invalid_transition"),
        ("/nowhere", 404, "not_found"),
        ("/async-broken", 500, "internal_error"),
    ],
)
async def test_the_async_road_answers_the_same(path, status, code):
    client = AsyncClient(raise_request_exception=False)
    answer = await client.get(path, headers={"X-Request-ID": "async-road-1"})
    assert answer.headers["X-Request-ID"] == "async-road-1"
    assert_problem(answer, status, code)


def test_a_browser_on_a_page_gets_a_page(http):
    answer = http.get("/ui/conflict", headers={"Accept": "text/html"})
    assert answer.status_code == 409
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "It has ended." in answer.content.decode()
    assert http.get("/ui/conflict").headers["Content-Type"] == "application/problem+json"
    for mistyped in ("/ui", "/admin"):
        answer = http.get(mistyped, headers={"Accept": "text/html"})
        assert (answer.status_code, answer.headers["Content-Type"][:9]) == (404, "text/html")
        assert 'href="/ui/"' in answer.content.decode()


def test_a_wrong_method_and_a_wrong_media_type_are_problems(http, make_user, bearer):
    make_user("ann", "user")
    header = bearer("ann")
    assert_problem(http.delete("/auth/me", headers=header), 405, "method_not_allowed")
    refused = http.options("/auth/me", headers=header)
    assert_problem(refused, 405, "method_not_allowed")
    assert refused.headers["Allow"] == "GET, HEAD"
    assert_problem(http.post("/things", "a=b", "text/plain", headers=header), 415, "unsupported_media_type")
    assert_problem(http.get("/things", headers={**header, "Accept": "text/csv"}), 406, "not_acceptable")


def test_a21_a_broken_body_is_a_400_with_a_pointer(http, make_user, bearer):
    make_user("ann", "user")
    header = bearer("ann")
    for body in ('{"a": NaN}', '{"a": "\\u0000"}', '{"a": {"a": 1, "a": 2}}'):
        problem = assert_problem(http.post("/things", body, "application/json", headers=header), 400, "invalid")
        assert problem["errors"][0]["pointer"].startswith("/a")
    assert_problem(http.post("/things", "{", "application/json", headers=header), 400, "parse_error")
    assert_problem(http.post("/things", "[" * 5_000, "application/json", headers=header), 400, "too_deep")


@pytest.mark.parametrize("path", ["/auth/me?x=%00", "/things?cursor=a%00b", "/a%00b"])
def test_a21_nul_in_a_path_or_a_query_is_a_400(http, path):
    assert_problem(http.get(path), 400, "invalid")


def test_a21_what_is_accepted_comes_back(http, make_user, bearer):
    make_user("ann", "user")
    value = {"text": "héllo \u2028 \U0001f600 \u202e <img onerror=1>", "n": 2**63 - 1, "f": 1e-7, "none": None}
    answer = http.post("/things", json.dumps(value), "application/json", headers=bearer("ann"))
    assert answer.status_code == 201
    assert answer.json() == value


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
def test_a23_a_body_over_the_limit_is_a_413(http, db, settings, content_type):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000
    body = json.dumps({"username": "a" * 2_000, "password": "b"})
    assert_problem(http.post("/auth/token", body, content_type), 413, "too_large")
    undeclared = http.generic("POST", "/auth/token", body, content_type, CONTENT_LENGTH="10")
    assert undeclared.status_code in (400, 413)


def test_a22_a_limit_is_capped_or_refused(http, make_user, bearer):
    make_user("ann", "user")
    header = bearer("ann")
    for limit in ("1e20", "-1", "0", "000", "many", "1.5", "²", "%F0"):
        assert_problem(http.get(f"/people?limit={limit}", headers=header), 400, "invalid")
    for limit in ("1", "1000", "1001", "9" * 5_000, "00000000000000000000002"):
        started = time.thread_time()  # of this thread: others load the machine
        assert http.get(f"/people?limit={limit}", headers=header).status_code == 200
        assert time.thread_time() - started < 1


@pytest.mark.parametrize(
    "cursor", ["x", "cD1hYmM=", "cD0lMDA=", "bz0xMDAwMDAwMDAwMDAwMDAwMDAwMA==", "%F0%9F", "cj0xJnA9MTIz", "A" * 5_000]
)
def test_a22_a_cursor_that_is_none_of_ours_is_a_400(http, make_user, bearer, cursor):
    make_user("ann", "user")
    answer = http.get(f"/people?cursor={cursor}", headers=bearer("ann"))
    assert answer.status_code in (200, 400)
    if answer.status_code == 400:
        assert answer.json()["errors"][0]["pointer"] == "/cursor"


def test_a_list_is_walked_by_cursor_without_loss(http, make_user, bearer):
    make_user("ann", "user")
    User.objects.bulk_create(User(username=f"u{i}") for i in range(25))
    header = bearer("ann")
    seen, url = [], "/people?limit=7"
    while url:
        page = http.get(url, headers=header).json()
        assert list(page) == ["results", "next", "previous"]
        seen += [row["id"] for row in page["results"]]
        url = page["next"]
    assert seen == [str(pk) for pk in User.objects.order_by("-id").values_list("pk", flat=True)]
    assert len(seen) == 26


@pytest.mark.parametrize(
    "path",
    [
        "/admin/",
        "/admin/accounts/user/",
        "/admin/accounts/user/add/",
        "/admin/accounts/role/{guest}/change/",
        "/things",
        "/people",
        "/docs",
    ],
)
def test_a24_no_page_needs_an_inline_script(client, make_user, path):
    make_user("root", "admin")
    client.login(username="root", password="correct horse battery")
    path = path.format(guest=Role.objects.get(name="guest").pk)
    html = client.get(path, headers={"Accept": "text/html"}).content.decode()
    assert "<html" in html
    for tag in re.findall(r"<script\b[^>]*>", html):
        assert "src=" in tag or 'type="application/json"' in tag, tag
    assert not re.search(r"<[^>]+\son\w+=", html)
    assert "javascript:" not in html


def test_swagger_ui_starts_from_our_own_host(client, make_user):
    make_user("ann", "guest")
    client.login(username="ann", password="correct horse battery")
    html = client.get("/docs", headers={"Accept": "text/html"}).content.decode()
    sources = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert all(source.startswith("/") for source in sources)
    assert "<style" not in html
    script = client.get("/docs?script=")
    assert script.headers["Content-Type"].startswith("application/javascript")
    assert "SwaggerUIBundle(" in script.content.decode()


def test_the_openapi_document_knows_our_credentials(http, make_user, bearer):
    make_user("ann", "guest")
    answer = http.get("/schema", headers={**bearer("ann"), "Accept": "application/vnd.oai.openapi+json"})
    assert answer.status_code == 200
    document = json.loads(answer.content)
    assert document["openapi"].startswith("3.1")
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert document["paths"]["/auth/token"]["post"].get("security", [{}]) == [{}]
    assert http.get("/schema").status_code == 401


def test_an_anonymous_browser_at_the_docs_is_led_to_the_login(http, db):
    answer = http.get("/docs", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/ui/login?next=/docs")
    assert http.get("/docs").status_code == 401


def test_a_session_that_opens_no_api_is_told_so_and_not_led_round_in_a_circle(client, make_user, monkeypatch):
    make_user("ann", "guest")
    client.login(username="ann", password="correct horse battery")
    monkeypatch.setattr(DocsView, "authentication_classes", [BearerAuthentication])  # as BROWSABLE_API=false has it
    answer = client.get("/docs", headers={"Accept": "text/html"})
    assert answer.status_code == 401
    assert "credentials were not provided" in answer.content.decode()


def asgi(scope_headers, body, chunks=2):
    """One POST through the ASGI handler, body in pieces, as a server hands it over."""
    from django.core.handlers.asgi import ASGIHandler

    async def call():
        size = max(1, len(body) // chunks)
        pieces = [body[i : i + size] for i in range(0, len(body), size)]
        events = [
            {"type": "http.request", "body": piece, "more_body": i + 1 < len(pieces)} for i, piece in enumerate(pieces)
        ]
        sent = []

        async def receive():
            if events:
                return events.pop(0)
            await asyncio.sleep(3600)
            return None

        async def send(event):
            sent.append(event)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/auth/token",
            "query_string": b"",
            "headers": [(b"host", b"testserver"), (b"content-type", b"application/json"), *scope_headers],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        await ASGIHandler()(scope, receive, send)
        return sent[0]["status"], b"".join(event.get("body", b"") for event in sent)

    return call()


@pytest.mark.django_db(transaction=True)
async def test_a_chunked_body_is_read(make_user):
    await sync_to_async(make_user)("ann", "guest")
    body = json.dumps({"username": "ann", "password": "correct horse battery"}).encode()
    status, answer = await asgi([(b"transfer-encoding", b"chunked")], body)
    assert status == 200, answer


@pytest.mark.django_db(transaction=True)
async def test_a23_an_undeclared_body_over_the_limit_is_a_413(settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10_000
    body = json.dumps({"username": "a" * 50_000, "password": "b"}).encode()
    for headers in ([(b"transfer-encoding", b"chunked")], [(b"content-length", b"20")]):
        status, answer = await asgi(headers, body)
        assert status == 413, answer
        assert json.loads(answer)["code"] == "too_large"
