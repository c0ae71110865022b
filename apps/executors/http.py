"""Steps of kind `http`: one request to the public internet, with its answer as outputs."""

import base64
import json
import math
import time
import zlib
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from opentelemetry.trace import SpanKind
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from apps.executors.config import failed, parse
from apps.executors.http_answer import NotTaken, artifact_name, content, saved, whole
from apps.executors.logs import CappedLog
from apps.executors.options import Options
from apps.executors.outputs import Unrecordable, checked_outputs, clean_text
from apps.executors.process.config import as_text
from apps.executors.tracing import ended, span_of, trace_headers
from apps.executors.types import Sink, StepCall, StepResult

if TYPE_CHECKING:
    import httpx

    from apps.executors.http_client import Transport

MAX_REDIRECTS = 5
NEVER_OURS = ("connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
"""Headers that frame the message: a step that sets them could smuggle a second one."""

FOLLOWED_ANYWHERE = frozenset({"accept", "accept-encoding", "accept-language", "content-type", "user-agent"})
"""Of a step's headers, those that go with a redirect to another origin: the others may hold credentials."""

RETRYABLE = frozenset({408, 425, 429})
"""Statuses below 500 that ask for another attempt: timeout, too early, too many requests."""


def _web_address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or len(parts.netloc.split()) != 1:
        raise ValueError("must begin with http:// or https:// and name a host")
    return url


def _a_steps_own(name: str) -> str:
    if name.lower() in NEVER_OURS:
        raise ValueError("is not a step's to set")
    return name


HeaderName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", max_length=200),
    AfterValidator(_a_steps_own),
]
HeaderValue = Annotated[
    str,
    BeforeValidator(as_text, json_schema_input_type=str),
    StringConstraints(pattern=r"^[\t\x20-\x7e\x80-\xff]*$", max_length=16_384),
]
Token = Annotated[
    str,
    BeforeValidator(as_text, json_schema_input_type=str),
    StringConstraints(pattern=r"^[\x21-\x7e]+$", max_length=16_384),
]
Credential = Annotated[
    str,
    BeforeValidator(as_text, json_schema_input_type=str),
    StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=1_024),
]
Status = Annotated[int, Field(ge=100, le=599)]


class Auth(BaseModel):
    """A credential, mostly a secret by reference: `bearer`, or `username` and `password`. No redirect takes it away."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    bearer: Token | None = None
    username: Credential | None = None
    password: Credential | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "Auth":
        if (self.bearer is None) == (self.username is None):
            raise ValueError("give either `bearer`, or `username` and `password`")
        if self.password is not None and self.username is None:
            raise ValueError("`password` goes with `username`")
        if self.username is not None and ":" in self.username:
            raise ValueError("a `username` cannot hold a colon")
        return self

    @property
    def header(self) -> str:
        """The value of the header `Authorization`."""
        if self.bearer is not None:
            return f"Bearer {self.bearer}"
        pair = f"{self.username}:{self.password or ''}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"


class Config(BaseModel):
    """`url`, `method`, `headers`, `auth`, `body` (text, or any JSON value), `expect` (statuses; else 200 to 299).

    With `artifact` the response is written to the artifact of that name as it comes, however long it is.
    """

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, StringConstraints(min_length=1, max_length=8_192), AfterValidator(_web_address)]
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict, max_length=100)
    auth: Auth | None = None
    body: Any = None
    expect: list[Status] | None = Field(default=None, min_length=1, max_length=100)
    artifact: Annotated[str, StringConstraints(min_length=1), AfterValidator(artifact_name)] | None = None

    def expects(self, status: int) -> bool:
        """Whether that status is a success."""
        return status in self.expect if self.expect is not None else 200 <= status <= 299


_Request = Config  # within the executor `Config` is its attribute


class HttpExecutor:
    """Sends requests over connections that are kept between steps; nothing else is (no cookies)."""

    kind = "http"
    Config: type[BaseModel] = Config

    def __init__(self, options: Options) -> None:
        self._options = options
        self._transport: Transport | None = None

    async def run(self, call: StepCall, sink: Sink) -> StepResult:
        """Perform one attempt."""
        from apps.executors.http_client import Transport

        config = parse(_Request, self.kind, call.config)
        if isinstance(config, StepResult):
            return config
        if self._transport is None:
            self._transport = Transport(self._options.http_allowed_hosts)
        log = CappedLog(sink, limit=self._options.max_log_bytes)
        try:
            return await self._exchange(call, config, log, self._transport)
        except NotTaken as error:
            return failed("output", str(error), retryable=error.retryable)
        except Exception as error:  # of five libraries: each has its row in the table
            return _told(error)

    async def close(self) -> None:
        """Drop the connections."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.aclose()

    async def _exchange(self, call: StepCall, config: _Request, log: CappedLog, transport: "Transport") -> StepResult:
        request = _request(config, call.task_key)
        follow = config.expect is None or not any(300 <= status <= 399 for status in config.expect)
        traced_by_the_step = "traceparent" in request.headers
        for _ in range(MAX_REDIRECTS + 1):
            _check_scheme(request.url)
            started = time.monotonic()
            client = _client(transport)  # new each time: it remembers cookies
            with span_of(request.method, kind=SpanKind.CLIENT) as span:
                span.set_attribute("http.request.method", request.method)
                if not traced_by_the_step:
                    request.headers.update(trace_headers())  # ids alone: whom it calls may trace, too
                response = await client.send(request, stream=True, follow_redirects=False)
                span.set_attribute("http.response.status_code", response.status_code)
                try:
                    _say(log, request, response, time.monotonic() - started)
                    if not (follow and response.next_request is not None):
                        return ended(span, await self._read(call, config, request, response))
                finally:
                    await response.aclose()
            request = _onward(config, request, response.next_request)
        return failed("http_status", f"more than {MAX_REDIRECTS} redirects", retryable=False)

    async def _read(
        self, call: StepCall, config: _Request, request: "httpx.Request", response: "httpx.Response"
    ) -> StepResult:
        status = response.status_code
        expected = config.expects(status)
        if expected and config.artifact is not None:
            kept = await saved(response, call.artifacts, config.artifact, self._options.max_artifact_bytes)
            return self._completed(response, {"artifact": kept})
        try:
            body = await whole(response, self._options.max_output_bytes)
        except (NotTaken, Unrecordable, zlib.error):
            if expected:
                raise
            body = b""
        if not expected:
            retryable = status in RETRYABLE or status >= 500
            start = clean_text(body[:300].decode("utf-8", "replace")).strip()
            message = f"{request.method} {_shown(request.url)} answered {status}"
            result = failed("http_status", f"{message}: {start}" if start else message, retryable=retryable)
            return _after(result, response.headers.get("retry-after", ""))
        return self._completed(response, content(response, body))

    def _completed(self, response: "httpx.Response", found: dict[str, Any]) -> StepResult:
        headers = {
            name.lower(): clean_text(value) for name, value in response.headers.items() if name.lower() != "set-cookie"
        }
        outputs = {"status": response.status_code, "headers": headers, **found}
        return StepResult(outputs=checked_outputs(outputs, self._options.max_output_bytes))


class _Forbidden(Exception):
    """A URL that leads neither to http nor to https."""


def _told(error: Exception) -> StepResult:
    import httpcore
    import httpx

    from apps.executors.http_client import Refused

    detail = f"{type(error).__name__}: {_first_line(error)}"
    match error:
        case Refused() | _Forbidden():
            message = f"{error}; an administrator may name a host in HTTP_STEP_ALLOWED_HOSTS"
            return failed("refused", message, retryable=False)
        case Unrecordable():
            return failed("output", f"the response cannot be recorded: {error}", retryable=False)
        case httpx.InvalidURL() | httpcore.LocalProtocolError() | ValueError() | TypeError():
            return failed("invalid", f"http: {detail}", retryable=False)
        case httpx.TransportError() | httpcore.TimeoutException() | httpcore.NetworkError() | httpcore.ProtocolError():
            return failed("connection", detail)
        case OSError() | httpcore.UnsupportedProtocol() | zlib.error():
            return failed("connection", detail)
    return failed("error", f"the request failed: {detail}")


def _client(transport: "Transport") -> "httpx.AsyncClient":
    import httpx

    from apps.executors.http_client import CONNECT_SECONDS

    return httpx.AsyncClient(
        transport=transport,
        trust_env=False,
        timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
        headers={"user-agent": "ai-orchestration-platform", "accept-encoding": "identity"},
    )


def _request(config: _Request, idempotency_key: str) -> "httpx.Request":
    import httpx

    url = httpx.URL(config.url)
    _check_scheme(url)
    headers = {
        "user-agent": "ai-orchestration-platform",
        "accept": "*/*",
        "accept-encoding": "identity",
        "idempotency-key": idempotency_key,
    }
    content: bytes | None = None
    if isinstance(config.body, str):
        headers["content-type"] = "text/plain; charset=utf-8"
        content = config.body.encode()
    elif config.body is not None:
        headers["content-type"] = "application/json"
        content = json.dumps(config.body, ensure_ascii=False, allow_nan=False).encode()
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in config.headers.items()]
    own = {name for name, _ in raw}
    raw += [(name.encode(), value.encode()) for name, value in headers.items() if name.encode() not in own]
    if config.auth is not None:
        raw = [(name, value) for name, value in raw if name != b"authorization"]
        raw.append((b"authorization", config.auth.header.encode("latin-1")))
    elif (url.username or url.password) and b"authorization" not in own:
        raw.append((b"authorization", _basic(url)))
    return httpx.Request(config.method, url, headers=raw, content=content)


def _basic(url: "httpx.URL") -> bytes:
    return b"Basic " + base64.b64encode(f"{url.username}:{url.password}".encode())


def _check_scheme(url: "httpx.URL") -> None:
    if url.scheme not in ("http", "https") or not url.host:
        raise _Forbidden(f"a URL must begin with http:// or https:// and name a host, not {url.scheme or 'nothing'}:")
    if url.port is not None and not 1 <= url.port <= 65_535:
        raise ValueError(f"url: there is no port {url.port}")


def _onward(config: _Request, request: "httpx.Request", following: "httpx.Request | None") -> "httpx.Request":
    assert following is not None  # noqa: S101 -- the caller's condition
    before, after = request.url, following.url
    if (before.scheme, before.host, before.port) != (after.scheme, after.host, after.port):
        for name in {name.lower() for name in config.headers} - FOLLOWED_ANYWHERE | {"authorization", "cookie"}:
            following.headers.pop(name, None)
    else:
        following.headers.pop("cookie", None)
    return following


def _after(result: StepResult, asked: str) -> StepResult:
    """A failure with the `Retry-After` of its response: seconds, or a date (RFC 9110, 10.2.3)."""
    seconds = _seconds(asked.strip())
    if result.error is None or seconds is None or not result.error.retryable:
        return result
    return replace(result, error=replace(result.error, retry_after=seconds))


def _seconds(asked: str) -> float | None:
    if asked.isascii() and asked.isdigit():
        return float(asked[:12])
    try:
        at = parsedate_to_datetime(asked).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, at - time.time()) if math.isfinite(at) else None


def _shown(url: "httpx.URL") -> str:
    """The URL without what may be secret: user, password, query, fragment."""
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace').rpartition('@')[2]}{url.path}"[:500]


def _say(log: CappedLog, request: "httpx.Request", response: "httpx.Response", seconds: float) -> None:
    line = f"{request.method} {_shown(request.url)} -> {response.status_code} in {seconds * 1000:.0f} ms\n"
    log.log("stdout", line)


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0][:300] if lines else "no further detail"
