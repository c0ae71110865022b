"""The server's door: daphne's requests, bounded before they are kept, and its own errors in our one form.

daphne keeps a whole body on disk and then in memory before the application sees a byte of it; here a body beyond
`REQUEST_MAX_BYTES` is dropped as it comes in and answered 413, declared or not. And a header of the caller's does not
choose the path that Django takes for the root (`Daphne-Root-Path`).
"""

import json
import uuid
from typing import Any

from daphne.http_protocol import HTTPFactory, WebRequest
from django.conf import settings

DRAIN = 16
"""A body of up to so many times the limit is read to its end, so that the caller hears the answer; then it is cut."""

_CODES = {400: "bad_request", 413: "too_large", 500: "internal_error", 503: "unavailable"}


def problem(status: int, title: str, detail: str) -> tuple[bytes, str]:
    """(body, request id) of an error that never reached the application."""
    request_id = str(uuid.uuid4())
    body = {
        "type": "about:blank", "title": title, "status": status, "code": _CODES.get(status, "error"), "detail": detail,
        "errors": [], "request_id": request_id,
    }  # fmt: skip
    return json.dumps(body).encode(), request_id


class BoundedRequest(WebRequest):
    """One request, of which no more is kept than the limit."""

    _parsePOSTFormSubmission = False  # Twisted would take forms apart, a second time and without a bound
    _received = 0
    _cut = False

    def gotLength(self, length: int | None) -> None:  # Twisted's name
        """Where the body's length is declared and hopeless nothing of it is read."""
        super().gotLength(length)  # type: ignore[no-untyped-call]
        if length is not None and length > DRAIN * settings.REQUEST_MAX_BYTES:
            self._hang_up()

    def handleContentChunk(self, data: bytes) -> None:
        """Keep what is within the limit; drop the rest."""
        self._received += len(data)
        if self._received <= settings.REQUEST_MAX_BYTES:
            super().handleContentChunk(data)  # type: ignore[no-untyped-call]
        elif self._received > DRAIN * settings.REQUEST_MAX_BYTES:
            self._hang_up()

    def process(self) -> Any:
        """As daphne's, for a request that is not too large."""
        self.requestHeaders.removeHeader(b"daphne-root-path")
        if self._received > settings.REQUEST_MAX_BYTES:
            self.basic_error(413, b"Request Entity Too Large", _too_large())
            return None
        return super().process()

    def basic_error(self, status: int, status_text: bytes, body: str | bytes) -> None:
        """An error of the server's own: `application/problem+json`, which names neither daphne nor a cause."""
        detail = body.decode() if isinstance(body, bytes) else body
        content, request_id = problem(status, status_text.decode("ascii"), _neutral(status, detail))
        headers = [
            (b"Content-Type", b"application/problem+json"),
            (b"Content-Length", str(len(content)).encode()),
            (b"X-Request-ID", request_id.encode()),
            (b"X-Content-Type-Options", b"nosniff"),
            (b"Cache-Control", b"no-store"),
        ]
        reply: Any = self.handle_reply
        reply({"type": "http.response.start", "status": status, "headers": headers})
        reply({"type": "http.response.body", "body": content})

    def _hang_up(self) -> None:
        """Answer at once and close: reading on would only cost."""
        if self._cut:
            return
        self._cut = True
        content, request_id = problem(413, "Request Entity Too Large", _too_large())
        head = (
            "HTTP/1.1 413 Request Entity Too Large\r\nContent-Type: application/problem+json\r\n"
            f"Content-Length: {len(content)}\r\nX-Request-ID: {request_id}\r\nConnection: close\r\n\r\n"
        )
        channel: Any = self.channel
        channel.transport.write(head.encode("ascii") + content)
        channel.loseConnection()


class BoundedFactory(HTTPFactory):
    """Makes connections whose requests are bounded."""

    def buildProtocol(self, addr: Any) -> Any:
        """A connection."""
        protocol = super().buildProtocol(addr)  # type: ignore[no-untyped-call]
        protocol.requestFactory = BoundedRequest
        return protocol


def _too_large() -> str:
    return f"The body is larger than {settings.REQUEST_MAX_BYTES:,} bytes."


def _neutral(status: int, detail: str) -> str:
    return detail if status < 500 else "Something went wrong on our side; quote the request_id when you report it."
