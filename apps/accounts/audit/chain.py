"""The chain: what is hashed, and how it is checked.

The hash of an entry is SHA-256 over its canonical JSON, which holds the hash of the entry before it.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from apps.accounts.audit.models import AuditEntry, AuditHead

START = "0" * 64
_FIELDS = (
    "seq", "actor_kind", "actor_id", "actor_name", "address", "request_id", "action", "object_type", "object_id",
    "object_name", "outcome", "before", "after", "previous",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How many entries hold, and where the chain breaks first (`seq` and why), if it does."""

    entries: int
    broken_at: int | None = None
    reason: str = ""


def hash_of(entry: AuditEntry) -> str:
    """SHA-256 (hexadecimal) of what `entry` says and of the hash before it."""
    told: dict[str, Any] = {name: getattr(entry, name) for name in _FIELDS}
    told["at"] = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def verify() -> Verdict:
    """Read the whole chain in order. One pass, bounded memory; entries written meanwhile are not looked at."""
    head = AuditHead.objects.filter(pk=1).first() or AuditHead(seq=0, hash=START)
    rows = AuditEntry.objects.order_by("seq")
    if head.seq == 0 and (stray := rows.first()) is not None and not AuditHead.objects.filter(seq__gt=0).exists():
        return Verdict(entries=0, broken_at=stray.seq, reason="the head of the chain is missing")
    seq, previous = 0, START
    for entry in rows.filter(seq__lte=head.seq).iterator(chunk_size=1000):
        if reason := _broken(entry, seq + 1, previous):
            return Verdict(entries=seq, broken_at=seq + 1, reason=reason)
        seq, previous = entry.seq, entry.hash
    if (seq, previous) != (head.seq, head.hash):
        reason = "the last entries are missing" if seq != head.seq else "the head of the chain is another's"
        return Verdict(entries=seq, broken_at=head.seq if seq == head.seq else seq + 1, reason=reason)
    return Verdict(entries=seq)


def _broken(entry: AuditEntry, expected: int, previous: str) -> str:
    """Why `entry` is not the next link; empty where it is."""
    if entry.seq != expected:
        return "the entry is missing"
    if entry.previous != previous:
        return "it does not follow the entry before it"
    return "" if entry.hash == hash_of(entry) else "it was changed: its hash is another's"
