"""Single-use tickets for the socket, for browsers whose page holds a token but cannot send it as a header.

A ticket stands for the credential it was made with, so what ends that credential ends the ticket's socket as well.
Kept in Django's cache under its digest; whoever deletes the entry has used it, in whatever process.
"""

import hashlib
import secrets

from django.core.cache import cache

from apps.progress.credentials import Credential, read, written

LIFETIME = 30  # seconds
_LENGTH = 43  # of token_urlsafe(32)


def issue(credential: Credential) -> str:
    """A ticket for one handshake in the next `LIFETIME` seconds."""
    ticket = secrets.token_urlsafe(32)
    cache.set(_key(ticket), written(credential), LIFETIME)
    return ticket


def redeem(ticket: str) -> Credential | None:
    """The credential behind a ticket, once; None for one that is unknown, used or expired."""
    if len(ticket) != _LENGTH:
        return None
    key = _key(ticket)
    kept = cache.get(key)
    return read(kept) if kept is not None and cache.delete(key) else None


def _key(ticket: str) -> str:
    return "progress-ticket:" + hashlib.sha256(ticket.encode()).hexdigest()
