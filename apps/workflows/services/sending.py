"""One message to one receiver: a signed request, a request in Slack's format, or a mail. No database.

Requests pass the guard of http steps: public addresses only, but for the hosts in `HTTP_STEP_ALLOWED_HOSTS`. A
redirect is not followed; it is a failure. What a receiver answers is not kept: it may repeat its own secret address.
"""

import asyncio
import json
import smtplib
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx
from django.conf import settings
from django.core.mail import send_mail

from apps.core.errors import PlatformError
from apps.core.sealing import unseal
from apps.core.signatures import sign
from apps.executors.http_client import Refused, Transport
from apps.workflows.models import Receiver

SECONDS = 10.0
"""Within which a receiver has answered. Mail has as long for each step (`EMAIL_TIMEOUT`)."""

TEXT_CHARACTERS = 2_000  # of an error, in what people read


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is told. `id` is the same at every attempt, so that a receiver knows what it has had already."""

    id: str
    type: str
    at: datetime
    workflow_id: str = ""
    execution_id: str = ""
    status: str = ""
    error: Mapping[str, Any] | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    url: str | None = None

    def data(self) -> dict[str, Any]:
        """As JSON tells it."""
        return {
            "type": self.type,
            "execution_id": self.execution_id or None,
            "workflow_id": self.workflow_id or None,
            "status": self.status or None,
            "error": self.error,
            "started_at": self.started_at and self.started_at.isoformat(),
            "finished_at": self.finished_at and self.finished_at.isoformat(),
            "url": self.url,
        }

    def subject(self) -> str:
        """In one line."""
        return f"Workflow {self.workflow_id}: {self.status.replace('_', ' ')}" if self.workflow_id else "A test message"

    def text(self) -> str:
        """For people: the subject, the error, where to look."""
        why = str((self.error or {}).get("message") or "")[:TEXT_CHARACTERS]
        return "\n".join(line for line in (self.subject(), why, self.url or self.execution_id) if line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A receiver, unsealed: never to be shown."""

    kind: str
    target: str = field(repr=False)
    secret: str = field(repr=False)


class NotSent(Exception):
    """The receiver was not reached, or refused; the text says why and holds no secret."""


def address_of(receiver: Receiver) -> Address:
    """Where it is. Raises `NotSent` where its target cannot be unsealed."""
    try:
        secret = unseal(receiver.secret) if receiver.secret else ""
        return Address(kind=receiver.kind, target=unseal(receiver.target), secret=secret)
    except PlatformError as error:
        raise NotSent(error.detail) from None


def send(message: Message, to: Address) -> None:
    """Send it once. Blocks for some `SECONDS` at most; raises `NotSent`."""
    try:
        match to.kind:
            case Receiver.Kind.WEBHOOK:
                _post(to.target, *_signed(message, to.secret))
            case Receiver.Kind.SLACK:
                _post(to.target, json.dumps({"text": _for_slack(message)}).encode(), {})
            case _:
                _mail(message, to.target)
    except NotSent:
        raise
    except Exception as error:  # of five libraries, and none may end the deliverer
        raise NotSent(_told(error)) from None


def _signed(message: Message, secret: str) -> tuple[bytes, dict[str, str]]:
    body = json.dumps(message.data(), separators=(",", ":")).encode()
    seconds = int(message.at.timestamp())
    signature = sign(secret, message_id=message.id, timestamp=seconds, body=body)
    return body, {"webhook-id": message.id, "webhook-timestamp": str(seconds), "webhook-signature": signature}


def _for_slack(message: Message) -> str:
    """Slack's three control characters, escaped: nothing in an error can mention a channel or forge a link."""
    return message.text().replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _mail(message: Message, target: str) -> None:
    if not settings.EMAIL_HOST:
        raise NotSent("mail is not set up: give EMAIL_HOST")
    send_mail(message.subject(), message.text() + "\n", None, [target])


def _post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    headers = {"content-type": "application/json", "user-agent": "ai-orchestration-platform", **headers}
    status = _within(SECONDS, _exchange(url, body, headers))
    if 300 <= status <= 399:
        raise NotSent(f"it answered {status}: a redirect is not followed, give the address it leads to")
    if not 200 <= status <= 299:
        raise NotSent(f"it answered {status}")


async def _exchange(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    transport = Transport(frozenset(settings.ENV.HTTP_STEP_ALLOWED_HOSTS))
    timeout = httpx.Timeout(SECONDS)
    async with (
        httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False, timeout=timeout) as client,
        client.stream("POST", url, content=body, headers=dict(headers)) as response,
    ):
        return response.status_code


def _within(seconds: float, work: Coroutine[Any, Any, int]) -> int:
    """Its result. Not `asyncio.run`: that would wait for a name server that hangs, however short the timeout."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(asyncio.wait_for(work, seconds))
    finally:
        loop.close()


def _told(error: Exception) -> str:
    """What happened, without what may be secret: the path and query of a URL, an address, what a server said."""
    match error:
        case Refused():
            return f"{error}; an administrator may name a host in HTTP_STEP_ALLOWED_HOSTS"
        case TimeoutError() | httpcore.TimeoutException():
            return f"no answer within {SECONDS:.0f} seconds"
        case httpcore.ConnectError():
            return f"no connection: {error}"[:300]
        case smtplib.SMTPResponseException():
            return f"the mail server answered {error.smtp_code}"
        case OSError():
            return f"no connection: {error.strerror or type(error).__name__}"
    return f"the attempt failed: {type(error).__name__}"


def masked(kind: str, target: str) -> str:
    """A target as answers show it: whose it is, and nothing that would let somebody else use it."""
    if kind == Receiver.Kind.MAIL:
        name, _, host = target.rpartition("@")
        return f"{name[:1]}…@{host}"
    parts = urlsplit(target)
    return f"{parts.scheme}://{parts.netloc}/…"
