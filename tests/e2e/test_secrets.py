"""A30: a secret, used by leaky steps of every kind, is looked for in all that the installation writes or tells."""

import hashlib
import json
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from websockets.sync.client import connect

from tests.e2e.conftest import PASSWORD, PATIENCE, ROOT, Installation
from tests.e2e.test_make_run import ended
from tests.support.receiver import Receiver
from tests.unit.vault.test_masking import SECRET, WRITTEN, leaks

CALLABLES = '''
"""Callables that tell what they were given, in every way there is."""

import base64, hashlib, json, os, sys, time
from urllib.parse import quote, quote_plus


def forms(key):
    return [key, json.dumps({"k": key}), json.dumps(json.dumps(key)), quote(key, safe=""), quote_plus(key), repr(key),
            base64.b64encode(key.encode()).decode(), base64.b64encode(b"u:" + key.encode()).decode(),
            base64.urlsafe_b64encode(key.encode()).decode()]


def leak(key, context):
    for form in forms(key):
        half = len(form) // 2
        print("printed", form)
        sys.stdout.write(form[:half]); sys.stdout.flush()
        time.sleep(0.1)
        print(form[half:])
        print(form, file=sys.stderr)
        os.write(1, form.encode() + b"\\n")
        context.log(form)
        context.progress(50, "at " + form)
        time.sleep(0.6)
    return {"digest": hashlib.sha256(key.encode()).hexdigest(), "forms": forms(key), key: {"deep": [forms(key)]}}


def burst(key):
    raise ValueError("; ".join(forms(key)))


async def leak_in_the_loop(key, context):
    for form in forms(key):
        context.log(form)
        context.progress(10, form)
    raise RuntimeError(key)
'''

KEY = "${secrets.leaky}"
TRIES = {"allow_failure": True}
DEFINITION = {
    "name": "Leaky",
    "steps": [
        {"id": "callable", "python": {"call": "leaky_steps.leak", "with": {"key": KEY}}},
        {"id": "burst", "python": {"call": "leaky_steps.burst", "with": {"key": KEY}}, **TRIES},
        {"id": "loop", "python": {"call": "leaky_steps.leak_in_the_loop", "with": {"key": KEY}}, **TRIES},
        {"id": "command", "command": ["python", "-c", (
            "import os,sys,json,base64,time;k=os.environ['KEY'];print(sys.argv[1]);"
            "sys.stdout.write(k[:9]);sys.stdout.flush();time.sleep(.7);print(k[9:]);"
            "print(base64.b64encode(k.encode()).decode());print(json.dumps({'told':k,k:1}))"), KEY],
         "environment": {"KEY": KEY}},
        {"id": "fails", "command": ["sh", "-c", 'echo "$KEY" >&2; exit 4'], "environment": {"KEY": KEY}, **TRIES},
        {"id": "reads", "depends_on": ["command"], "command": ["cat"]},
        {"id": "asks", "http": {"url": "URL/echo", "method": "POST", "headers": {"Authorization": f"Bearer {KEY}"},
                                "body": {"key": KEY}}},
        {"id": "refused", "http": {"url": f"URL/500?k={KEY}", "headers": {"X-Key": KEY}}, **TRIES},
        {"id": "wrong", "http": {"url": f"{KEY}"}, **TRIES},
        {"id": "expression", "python": {"call": "builtin.echo", "with": {"x": "${len(secrets.leaky) < secrets.leaky}"}},
         **TRIES},
    ],
    "outputs": [{"name": "forms", "value": "${steps.callable.outputs.forms}"},
                {"name": "asked", "value": "${steps.asks.outputs}"}],
}  # fmt: skip


class Echo(BaseHTTPRequestHandler):
    """Says back what it was sent, and keeps what it was sent."""

    protocol_version = "HTTP/1.1"
    seen: list = []

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        said = self.headers.get("Authorization") or self.headers.get("X-Key") or ""
        self.seen.append(said.encode("latin-1").decode("utf-8", "replace"))
        answer = body + said.encode("latin-1", "replace")
        self.send_response(500 if "500" in self.path else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET

    def log_message(self, *args):
        pass


@pytest.fixture
def echo():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def leaky(tmp_path, echo):
    (tmp_path / "leaky_steps.py").write_text(CALLABLES)
    collector = Receiver()
    installation = Installation(
        tmp_path, CALLABLE_MODULES="leaky_steps", PYTHONPATH=str(tmp_path), HTTP_STEP_ALLOWED_HOSTS="127.0.0.1",
        DAGGER_TRACING_ENABLED="true", DAGGER_OTLP_ENDPOINT=collector.endpoint, LOG_LEVEL="DEBUG",
    )  # fmt: skip
    installation.collector = collector
    try:
        yield installation.start()
    finally:
        installation.kill()


def pages(installation):
    """A browser's session of the administrator."""
    browser = httpx.Client(base_url=installation.base, timeout=PATIENCE, follow_redirects=True)
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', browser.get("/ui/login").text)[1]
    form = {"username": "admin", "password": PASSWORD, "csrfmiddlewaretoken": token}
    assert browser.post("/ui/login", data=form, headers={"Referer": installation.base}).status_code == 200
    return browser


def frames(installation, client, execution):
    """What the socket tells from the first event on."""
    url = f"ws://127.0.0.1:{installation.port}/progress/ws?workflow_id={execution}&since=0"
    told = []
    with connect(url, additional_headers={"Authorization": f"Bearer {client.token}"}, open_timeout=PATIENCE) as socket:
        while not told or json.loads(told[-1]).get("event") != "execution.completed":
            told.append(str(socket.recv(timeout=PATIENCE)))
    return "\n".join(told)


def test_a30_a_secret_is_in_nothing_that_is_told_or_kept(leaky, echo, tmp_path):
    client = leaky.client()
    made = client.post("/secrets", json={"name": "leaky", "value": SECRET}, headers={"Idempotency-Key": "k"})
    assert made.status_code == 201, made.text
    text = json.dumps(DEFINITION).replace("URL/", f"{echo}/")
    answer = client.post("/workflows", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 201, answer.text
    execution = client.post("/workflows/leaky/execute", json={}).json()["execution_id"]
    found = ended(client, execution)
    steps = {task["step_id"]: task for task in client.get(f"/executions/{execution}/tasks").json()["results"]}

    # The positive control: every step had the secret, and said it.
    assert found["status"] == "completed", found
    assert steps["callable"]["outputs"]["digest"] == hashlib.sha256(SECRET.encode()).hexdigest()
    assert {one["status"] for name, one in steps.items() if name in ("burst", "loop", "fails", "refused")} == {"failed"}
    assert steps["expression"]["error"]["type"] == "invalid"
    said = "".join(row["text"] for row in client.get(f"/executions/{execution}/logs").json())
    assert said.count("***") > 60

    one = f"/executions/{execution}"
    browser = pages(leaky)
    admin = ["vault/secret", "workflows/execution", "workflows/task", "workflows/workflow", "accounts/auditentry"]
    keys = re.findall(r'href="(/admin/[a-z/]+/[0-9a-f-]{36}/change/)', "".join(
        browser.get(f"/admin/{page}/").text for page in admin))  # fmt: skip
    sinks = {
        **{path: client.get(path).text for path in (
            "/secrets", "/secrets/leaky", "/workflows/leaky", "/workflows/leaky/versions", "/workflows/leaky/plan",
            one, f"{one}/tasks", f"{one}/events", f"{one}/logs", f"{one}/why", f"/progress/{execution}",
            f"/progress/{execution}/history", f"/progress/{execution}/estimate", "/executions", "/tasks", "/audit",
            "/monitoring/metrics", "/schema", "/workers", "/notifications",
        )},
        **{f"task {name}": client.get(f"/tasks/{task['id']}").text for name, task in steps.items()},
        "the workflow as YAML": client.get("/workflows/leaky", headers={"Accept": "application/yaml"}).text,
        "replayed": client.post("/secrets", json={"name": "leaky", "value": SECRET},
                                headers={"Idempotency-Key": "k"}).text,
        "a taken name": client.post("/secrets", json={"name": "leaky", "value": SECRET}).text,
        "a wrong request": client.post("/secrets", json={"name": "x", "value": [SECRET]}).text,
        **{path: browser.get(path).text for path in (f"/ui/executions/{execution}", "/ui/workflows/leaky", "/ui/")},
        **{f"/admin/{page}/": browser.get(f"/admin/{page}/").text for page in admin},
        **{path: browser.get(path).text for path in dict.fromkeys(keys)},
        "socket": frames(leaky, client, execution),
    }  # fmt: skip
    subprocess.run(
        [sys.executable, "manage.py", "export", str(tmp_path / "out")], cwd=ROOT, check=True, capture_output=True,
        env={**leaky.environment, "DJANGO_SETTINGS_MODULE": "orchestration.settings.dev"},
    )  # fmt: skip
    sinks["export"] = (tmp_path / "out" / "leaky.yaml").read_text()
    deadline = time.monotonic() + PATIENCE
    while len(leaky.collector.spans()) < 5 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert len(leaky.collector.spans()) >= 5
    leaky.stop()
    sinks["spans"] = "".join(repr(batch) for batch in leaky.collector.batches)
    sinks["the servers' log"] = leaky.log.read_text(errors="replace")
    for path in (tmp_path / "data").rglob("*"):
        if path.is_file():
            sinks[f"file {path.name}"] = path.read_bytes().decode("utf-8", "replace")

    assert len(keys) > 5
    assert not [name for name, text in sinks.items() if name.startswith(("/", "task")) and not text]
    assert len(sinks["file platform.sqlite3"]) > 100_000
    hits = [name for name, text in sinks.items() if leaks(text, SECRET)]
    print(f"A30: {len(sinks)} sinks × {len(WRITTEN)} forms, hits = {len(hits)}")
    assert not hits, hits
