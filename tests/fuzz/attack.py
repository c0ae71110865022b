"""Makes hostile requests for the operations of the OpenAPI document, sends them and judges the answers."""

import collections
import json
import random
import time
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from tests.fuzz.corpus import BODIES, LITERALS, MEDIA_TYPES
from tests.integration.matrix import world as worlds

PLACE = "@@literal@@"
SLOW = 20.0  # seconds: no answer takes so long, whatever is sent and whatever else the machine does
FORBIDDEN = ("Traceback (most recent", "django.db", "SELECT ", "/site-packages/", "psycopg", "sqlite3.", "hunter2")
HEADERS = (
    "Idempotency-Key", "X-Request-ID", "Accept", "Accept-Language", "X-Forwarded-For", "Origin", "Host",
    "If-None-Match", "If-Modified-Since", "Range", "Cookie", "Authorization", "webhook-id", "webhook-timestamp",
    "webhook-signature",
    "X-GitHub-Delivery", "X-Hub-Signature-256", "Referer", "X-CSRFToken", "traceparent", "Content-Length",
)  # fmt: skip
LISTS = (
    "/workflows", "/executions", "/tasks", "/schedules", "/webhooks", "/notifications", "/queues", "/workers", "/audit",
    "/monitoring/metrics", "/monitoring/dagger/metrics", "/monitoring/health/ready", "/ui/", "/schema", "/auth/me",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One request; `body` is bytes, `path` is percent-encoded with its query."""

    operation: str
    path: str
    body: bytes | None = None
    media_type: str = "application/json"
    headers: dict = field(default_factory=dict)
    what: str = ""


@dataclass
class Report:
    """What came of the shots: counts by status and by caller, and each answer that should not have been."""

    statuses: collections.Counter = field(default_factory=collections.Counter)
    callers: collections.Counter = field(default_factory=collections.Counter)
    bad: list = field(default_factory=list)

    @property
    def requests(self):
        return sum(self.statuses.values())


def operations(document):
    """(route, its parameters, its JSON body's schema) of the OpenAPI document."""
    for path, methods in sorted(document["paths"].items()):
        for method, operation in sorted(methods.items()):
            if method not in ("get", "post", "put", "patch", "delete"):
                continue
            content = operation.get("requestBody", {}).get("content", {})
            schema = content.get("application/json", {}).get("schema")
            yield f"{method.upper()} {path}", operation.get("parameters", []), resolved(document, schema)


def resolved(document, schema):
    """A schema with its first reference followed."""
    if schema and "$ref" in schema:
        return document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if schema and "oneOf" in schema:
        return resolved(document, schema["oneOf"][0])
    return schema


def as_text(literal):
    """A literal as it stands in a path, a query or a header."""
    try:
        value = json.loads(literal)
    except (ValueError, RecursionError):
        return literal
    return value if isinstance(value, str) else literal


def encoded(literal, safe=""):
    return quote(as_text(literal).encode("utf-8", "surrogatepass"), safe=safe)


def with_literal(body, name, literal):
    """The body's text with a literal as the member `name`."""
    return json.dumps({**body, name: PLACE}).replace(json.dumps(PLACE), literal).encode("utf-8", "surrogatepass")


def shots_at(route, parameters, schema, thing, literal):
    """Every place of an operation with one literal."""
    body, real = worlds.body_of(route, thing), worlds.path_of(route, thing).partition("?")[0]
    known = {"operation": route, "what": literal[:60]}
    content = None if route.startswith("GET ") else json.dumps(body).encode()
    parts = route.partition(" ")[2].split("/")
    for number, part in enumerate(parts):
        if part.startswith("{"):
            said = real.split("/")
            yield Shot(path="/".join([*said[:number], encoded(literal), *said[number + 1 :]]), body=content, **known)
    for parameter in parameters:
        if parameter["in"] == "query":
            yield Shot(path=f"{real}?{parameter['name']}={encoded(literal)}", body=content, **known)
    if schema is not None or body:
        members = {**(schema or {}).get("properties", {}), **body}
        for name in [*members, "unknown"]:
            yield Shot(path=real, body=with_literal(body, name, literal), **known)
        yield Shot(path=real, body=literal.encode("utf-8", "surrogatepass"), **known)


def odd_shots(route, thing, chance):
    """Whole bodies, media types, headers and queries that no document describes."""
    real = worlds.path_of(route, thing)
    content = None if route.startswith("GET ") else json.dumps(worlds.body_of(route, thing)).encode()
    literal = chance.choice(LITERALS)
    header = "".join(letter for letter in as_text(literal) if letter.isprintable() and ord(letter) < 256)[:8_000]
    body = chance.choice(BODIES)
    yield Shot(operation=route, path=real, body=body, media_type=chance.choice(MEDIA_TYPES), what=repr(body[:40]))
    yield Shot(operation=route, path=real, body=content, headers={chance.choice(HEADERS): header}, what="header")
    joined = "&" if "?" in real else "?"
    yield Shot(operation=route, path=f"{real}{joined}{encoded(literal)}={encoded(literal)}", body=content, what="query")
    yield Shot(operation=route, path=real + joined + "a=b&" * 500, body=content, what="a long query")
    yield Shot(operation=route, path=f"{real.partition('?')[0]}/{encoded(literal)}", body=content, what="a path beyond")


def send(world, caller, shot, report):
    """Send it, count it, and note what should not have been answered."""
    report.callers[caller] += 1
    fire(world.clients[caller], shot, report)
    if "/auth/logout" in shot.operation and caller in world.users:
        world.log_in(caller)


def fire(client, shot, report):
    method = shot.operation.partition(" ")[0]
    meta = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in shot.headers.items()}
    if "HTTP_CONTENT_LENGTH" in meta:
        declared = meta.pop("HTTP_CONTENT_LENGTH")
        # More than there is would be a server waiting for the rest; the test client has no rest to wait for.
        too_much = declared.isascii() and declared.isdigit() and int(declared[:30]) > len(shot.body or b"")
        meta["CONTENT_LENGTH"] = str(len(shot.body or b"")) if too_much else declared
    began = time.monotonic()
    try:
        answer = client.generic(method, shot.path, shot.body or b"", content_type=shot.media_type, **meta)
        content = read(answer)
    except Exception as error:
        report.statuses["raised"] += 1
        report.bad.append((shot, f"raised {type(error).__name__}: {str(error)[:300]}"))
        return
    report.statuses[answer.status_code] += 1
    sent = unquote(shot.path) + (shot.body or b"").decode("utf-8", "replace")
    if why := wrong(answer, content, time.monotonic() - began, sent):
        report.bad.append((shot, why))


def read(answer):
    """The body; of a stream without an end nothing."""
    if not answer.streaming:
        return answer.content
    if answer.is_async:
        answer.close()
        return b""
    return b"".join(answer.streaming_content)


def wrong(answer, content, seconds, sent=""):
    """Why this answer should not have been; empty where it is fine. What was sent may be quoted."""
    status, kind = answer.status_code, answer.headers.get("Content-Type", "")
    if status >= 500:
        return f"{status} {content[:300]!r}"
    if seconds > SLOW:
        return f"took {seconds:.1f} s"
    if "X-Request-ID" not in answer.headers or answer.headers.get("X-Content-Type-Options") != "nosniff":
        return f"{status} without its headers"
    if status >= 400 and kind == "application/problem+json":
        body = json.loads(content)
        if not {"type", "title", "status", "code", "detail", "errors", "request_id"} <= body.keys():
            return f"{status} is no whole problem: {sorted(body)}"
    elif status >= 400 and not kind.startswith("text/html"):
        return f"{status} as {kind!r}"
    text = content.decode("utf-8", "replace")
    return next(
        (f"{status} discloses {word!r}" for word in FORBIDDEN if status >= 400 and word in text and word not in sent),
        "",
    )


def poisoned(client):
    """The lists that no longer answer, after all that was stored."""
    found = []
    for path in LISTS:
        answer = client.generic("GET", path, HTTP_ACCEPT="*/*")
        if answer.status_code != 200:
            found.append(f"{path}: {answer.status_code} {answer.content[:200]!r}")
        following, pages = next_of(answer), 0
        while following and pages < 20:
            answer, pages = client.generic("GET", following), pages + 1
            if answer.status_code != 200:
                found.append(f"{following}: {answer.status_code}")
            following = next_of(answer)
    for row in client.generic("GET", "/workflows?limit=1000").json()["results"]:
        for path in (f"/workflows/{row['id']}", f"/workflows/{row['id']}/plan", f"/ui/workflows/{row['id']}"):
            answer = client.generic("GET", path)
            if answer.status_code >= 500:
                found.append(f"{path}: {answer.status_code}")
    return found


def next_of(answer):
    kind = answer.headers.get("Content-Type", "")
    found = answer.json() if answer.status_code == 200 and kind.startswith("application/json") else None
    return found.get("next") if isinstance(found, dict) else None


def volley(world, document, seed, size):
    """`size` shots of a seed, with the caller of each: (caller, shot)."""
    chance = random.Random(seed)
    known = list(operations(document))
    fired = 0
    while fired < size:
        route, parameters, schema = chance.choice(known)
        caller = chance.choice(list(world.clients))
        thing = world.thing(caller, chance.choice(worlds.RELATIONS)) if caller in world.users else world.thing("", "-")
        places = list(shots_at(route, parameters, schema, thing, chance.choice(LITERALS)))
        for shot in [*chance.sample(places, min(3, len(places))), *odd_shots(route, thing, chance)]:
            yield caller, shot
            fired += 1
