"""The server's own door, by raw bytes over TCP: real daphne under production settings (A1, A13, A22, A23, A25, A34)."""

import json
import socket
import time

import httpx
import psutil
import pytest

from tests.support.server import PASSWORD, Servers

LIMIT = 4 * 1024 * 1024 + 64 * 1024
MEMBERS = {"type", "title", "status", "code", "detail", "errors", "request_id"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with Servers(tmp_path_factory.mktemp("door"), CORS_ALLOWED_ORIGINS="https://ui.example.com") as running:
        yield running


@pytest.fixture(scope="module")
def token(servers):
    return servers.token()


def raw(servers, *pieces, seconds=30):
    """(status, headers, body) of what is answered to these bytes."""
    with socket.create_connection(("127.0.0.1", servers.ports[0]), seconds) as link:
        received = b""
        try:
            for piece in pieces:
                link.sendall(piece)
        except OSError:
            pass  # it closed while we were sending; what it said is still to be read
        try:
            while chunk := link.recv(65536):
                received += chunk
        except OSError:
            pass
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
    return int(first.split(" ")[1]) if first else 0, headers, body


def head(method, path, *lines):
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *lines, "", "")).encode()


def problem(answer, status):
    found, headers, body = answer
    assert found == status, (found, headers, body[:300])
    assert headers["content-type"] == "application/problem+json"
    told = json.loads(body)
    assert told.keys() >= MEMBERS
    assert told["status"] == status
    assert told["request_id"] == headers["x-request-id"]
    assert not headers.keys() & {"server", "x-powered-by"}
    assert b"aphne" not in body and b"wisted" not in body and b"Traceback" not in body
    return told


# --- A1


def test_a1_a_fresh_installation_has_no_default_password(servers):
    for name, password in (("admin", "admin"), ("admin", "password"), ("root", "root"), ("admin", "")):
        answer = httpx.post(f"{servers.bases[0]}/auth/token", json={"username": name, "password": password}, timeout=30)
        assert answer.status_code in (400, 401)
        assert (answer.status_code == 400) == (password == "")
    assert "password" not in servers.said  # the positive control: the one that was given works, and is not repeated
    assert servers.token("admin", PASSWORD)


# --- A13


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example", "null", "https://ui.example.com.evil.example", "https://evilui.example.com",
        "http://ui.example.com", "https://ui.example.com:444", "https://ui.example.comx", "https://UI.example.com@evil",
    ],
)  # fmt: skip
def test_a13_a_foreign_origin_is_allowed_nothing(servers, token, origin):
    headers = {"Origin": origin, "Authorization": f"Bearer {token}", "Cookie": "sessionid=x"}
    answer = httpx.get(f"{servers.bases[0]}/workflows", headers=headers, timeout=30)
    preflight = httpx.options(
        f"{servers.bases[0]}/workflows",
        headers={"Origin": origin, "Access-Control-Request-Method": "POST"},
        timeout=30,
    )
    for one in (answer, preflight):
        assert not [name for name in one.headers if name.startswith("access-control-allow")], origin


def test_a13_positive_control_a_named_origin_may(servers, token):
    origin = "https://ui.example.com"
    answer = httpx.get(
        f"{servers.bases[0]}/workflows", headers={"Origin": origin, "Authorization": f"Bearer {token}"}, timeout=30
    )
    assert answer.headers["access-control-allow-origin"] == origin
    assert "access-control-allow-credentials" not in answer.headers  # a cookie is not for foreign pages
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    preflight = httpx.options(f"{servers.bases[0]}/workflows", headers=asked, timeout=30)
    assert preflight.headers["access-control-allow-origin"] == origin
    assert "authorization" in preflight.headers["access-control-allow-headers"]


# --- A22


def test_a22_endless_headers_and_lines_are_refused_at_once(servers):
    began = time.monotonic()
    many = [f"X-Same: {number}" for number in range(1_000)]
    assert raw(servers, head("GET", "/monitoring/health/live", *many))[0] == 400
    assert raw(servers, head("GET", "/monitoring/health/live?" + "a=" * 40_000))[0] in (0, 400, 414)
    assert raw(servers, head("GET", "/monitoring/health/live", "X-Long: " + "x" * 70_000))[0] in (0, 400)
    assert time.monotonic() - began < 20  # three connections on a machine that others load
    few = [f"X-Same: {number}" for number in range(100)]
    assert raw(servers, head("GET", "/monitoring/health/live", *few))[0] == 200


# --- A23


def memory(servers):
    return psutil.Process(servers.processes[0].pid).memory_info().rss


def test_a23_a_declared_body_over_the_limit_is_answered_before_it_is_sent(servers):
    for size in (LIMIT + 1, LIMIT * 16 + 1, 10**12):
        lines = ("Content-Type: application/json", f"Content-Length: {size}")
        sent = (b"x" * (LIMIT + 1),) if size == LIMIT + 1 else ()
        assert problem(raw(servers, head("POST", "/auth/token", *lines), *sent), 413)["code"] == "too_large"


def test_a23_an_endless_undeclared_body_is_cut_and_costs_no_memory(servers):
    raw(servers, head("GET", "/monitoring/health/live"))
    before = memory(servers)
    piece = b"%x\r\n" % 65536 + b"x" * 65536 + b"\r\n"
    lines = ("Content-Type: application/json", "Transfer-Encoding: chunked")
    answer = raw(servers, head("POST", "/auth/token", *lines), *[piece] * 3_200, b"0\r\n\r\n")  # 200 MiB
    assert answer[0] in (0, 413)  # cut: whether the answer is read first is the network's affair
    assert memory(servers) - before < 64 * 1024 * 1024
    moderate = (*[piece] * 80, b"0\r\n\r\n")  # 5 MiB, to its end
    assert problem(raw(servers, head("POST", "/auth/token", *lines), *moderate), 413)["code"] == "too_large"


def test_a23_positive_control_a_body_within_the_limit_arrives_whole(servers, token):
    body = json.dumps({"name": "large", "description": "d" * 1_000, "steps": [{"id": "a", "python": "builtin.noop"}]})
    body = body + " " * (4 * 1024 * 1024 - len(body))
    for lines, pieces in (
        ((f"Content-Length: {len(body)}",), (body.encode(),)),
        (("Transfer-Encoding: chunked",), (b"%x\r\n" % len(body) + body.encode() + b"\r\n", b"0\r\n\r\n")),
    ):
        answer = raw(
            servers,
            head(
                "POST",
                "/workflows/validate",
                f"Authorization: Bearer {token}",
                "Content-Type: application/json",
                *lines,
            ),
            *pieces,
        )
        assert answer[0] == 200, answer


def test_a23_a_form_of_millions_of_fields_holds_nobody_up(servers):
    body = b"a&" * (LIMIT // 2 - 1)
    began = time.monotonic()
    lines = ("Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}")
    found = raw(servers, head("POST", "/auth/token", *lines), body)
    assert found[0] in (400, 413)
    assert time.monotonic() - began < 30


# --- A34


@pytest.mark.parametrize(
    "request_bytes",
    [
        head("GET", "/a\u00e9".encode().decode("latin-1")),
        head("GET", "/x?\u00e9".encode().decode("latin-1")),
        head("GET", "/x", "X-Bad\x01Name: y"),
        head("GET", "/x", "X-Name: a\x00b"),
        head("GET", "/x", "X(Bad): y"),
    ],
)
def test_a34_errors_of_the_server_itself_disclose_nothing(servers, request_bytes):
    status, headers, body = raw(servers, request_bytes)
    assert status == 400
    assert "server" not in headers
    if body:
        problem((status, headers, body), 400)


def test_a34_what_the_application_answers_names_no_software(servers, token):
    for path in ("/", "/workflows", "/nowhere", "/ui/login", "/admin/login/", "/monitoring/health/live"):
        answer = httpx.get(f"{servers.bases[0]}{path}", headers={"Authorization": f"Bearer {token}"}, timeout=30)
        assert not {name.lower() for name in answer.headers} & {"server", "x-powered-by", "x-django-version"}, path
        assert answer.headers["x-request-id"]


def test_a7_a_header_does_not_move_the_root(servers):
    """daphne lets any caller choose Django's root path; checks of a path's text would look at another path."""
    lines = ("Daphne-Root-Path: /x",)
    assert raw(servers, head("GET", "/x/monitoring/health/live", *lines))[0] == 404
    assert raw(servers, head("GET", "/monitoring/health/live", *lines))[0] == 200


# --- A25


def test_a25_every_line_of_the_log_is_one_record(servers):
    evil = "%0d%0a%1b%5b31m%e2%80%a8%e2%80%aegnp"
    for path in (f"/{evil}", f"/workflows/{evil}", f"/workflows?search={evil}", f"/ui/workflows/{evil}"):
        raw(
            servers,
            head(
                "GET",
                path,
                "User-Agent: \x1b[31m",
                "X-Request-ID: \x1b]0;x\x07",
                "Referer: \u202e".encode().decode("latin-1"),
            ),
        )
    body = json.dumps(
        {"username": 'a\r\n{"level": "forged"}\x1b[31m\u2028\u202e', "password": "hunter2-hunter2"}
    ).encode()
    raw(servers, head("POST", "/auth/token", "Content-Type: application/json", f"Content-Length: {len(body)}"), body)
    raw(servers, head("POST", "/auth/refresh", "Content-Type: application/json", "Content-Length: 36"),
        b'{"refresh_token": "hunter2-hunter2"}')  # fmt: skip
    text = servers.log.read_bytes()
    assert b"hunter2" not in text
    for line in text.decode().split("\n"):
        if line:
            assert line.isascii() and line.isprintable(), line
            assert json.loads(line)["level"] != "forged"


# --- A24


def test_a24_every_answer_of_a_running_server_carries_the_policy(servers):
    for path in ("/ui/login", "/workflows", "/nowhere"):
        headers = httpx.get(f"{servers.bases[0]}{path}", timeout=30).headers
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
