"""Signed messages: Standard Webhooks (standardwebhooks.com, version 1) both ways, and GitHub's scheme inward.

Pure: the secret, the time and the bytes come from the caller. Every comparison takes constant time.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta

TOLERANCE = timedelta(minutes=5)
"""How far a signed timestamp may be from now, in both directions."""

PREFIX = "whsec_"
MAX_ID = 256  # characters of a message's id
MAX_SIGNATURES = 20  # in one header: enough for every key of a rotation
_KEY_BYTES = range(24, 65)  # as the scheme asks
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)


def new_secret() -> str:
    """A secret of 32 random bytes: `whsec_` and their base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode("ascii")


def is_secret(text: str) -> bool:
    """Whether `text` is a secret of the scheme: `whsec_` and 24 to 64 bytes in base64."""
    try:
        return text.startswith(PREFIX) and len(_key(text)) in _KEY_BYTES
    except ValueError:
        return False


def sign(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    """The signature `v1,…` of a message; `timestamp` in seconds since 1970. Raises ValueError for no secret."""
    content = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(_key(secret), content, hashlib.sha256)).decode("ascii")


def signed_message(secret: str, headers: Mapping[str, str], body: bytes, *, now: datetime) -> str | None:
    """The id of a message that was signed with `secret`, or None where it was not, or too long ago.

    `headers` have lower-case names. Standard Webhooks: `webhook-id`, `webhook-timestamp` and `webhook-signature`
    (several, separated by spaces). GitHub: `x-hub-signature-256`, with `x-github-delivery` as the id, which that
    scheme does not sign.
    """
    if "webhook-signature" in headers:
        return _standard(secret, headers, body, now)
    return _github(secret, headers, body)


def _standard(secret: str, headers: Mapping[str, str], body: bytes, now: datetime) -> str | None:
    message_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    seconds = int(timestamp) if _SECONDS.fullmatch(timestamp) else 0
    expected = sign(secret, message_id=message_id, timestamp=seconds, body=body).encode()
    given = headers["webhook-signature"].split(" ")[:MAX_SIGNATURES]
    # Every one is compared, so that time does not tell which one it was.
    matches = sum(hmac.compare_digest(expected, one.encode()) for one in given)
    recent = abs(now.timestamp() - seconds) <= TOLERANCE.total_seconds()
    return message_id if matches and recent and timestamp == str(seconds) and _is_id(message_id) else None


def _github(secret: str, headers: Mapping[str, str], body: bytes) -> str | None:
    message_id = headers.get("x-github-delivery", "")
    expected = f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}".encode()
    matches = hmac.compare_digest(expected, headers.get("x-hub-signature-256", "").encode())
    return message_id if matches and _is_id(message_id) else None


def _is_id(text: str) -> bool:
    return 0 < len(text) <= MAX_ID and text.isascii() and text.isprintable()


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("a secret is `whsec_` and base64") from None
