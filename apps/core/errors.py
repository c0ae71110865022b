"""What can go wrong, in words every surface understands.

An error carries a code and data and knows no HTTP: REST renders it as problem+json, a socket as a close code,
a command as one line and an exit code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with what a caller sent.

    `pointer` is a JSON pointer (RFC 6901) into it: `/steps/2/depends_on/0`, or `` for the whole;
    `message` names the field and the fix.
    """

    pointer: str
    code: str
    message: str


class PlatformError(Exception):
    """The root of every error that a caller is told about."""

    default_code: ClassVar[str] = "error"

    def __init__(self, detail: str, *, code: str | None = None, problems: Sequence[Problem] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.default_code
        self.problems = tuple(problems)


class Invalid(PlatformError):
    """What was sent cannot be understood or is not allowed; `problems` lists every mistake."""

    default_code = "invalid"


class Unauthenticated(PlatformError):
    """No credential, or one that does not hold."""

    default_code = "not_authenticated"


class Denied(PlatformError):
    """The caller is known and may not."""

    default_code = "permission_denied"


class NotFound(PlatformError):
    """There is no such thing, or the caller may not know of it: one answer for both."""

    default_code = "not_found"


class Conflict(PlatformError):
    """Lawful in itself, but not now: a taken id, a move from a terminal status, a stale attempt."""

    default_code = "conflict"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        problems: Sequence[Problem] = (),
        allowed_actions: Sequence[str] | None = None,
    ) -> None:
        super().__init__(detail, code=code, problems=problems)
        self.allowed_actions = None if allowed_actions is None else tuple(allowed_actions)


class Unprocessable(PlatformError):
    """Well-formed, and still not to be carried out: an idempotency key that stands for another request already."""

    default_code = "unprocessable"


class TooLarge(PlatformError):
    """More bytes, items or depth than the setting allows."""

    default_code = "too_large"


class Full(PlatformError):
    """There is no room left for what should be kept: a quota of the whole installation, or a disk."""

    default_code = "storage_full"


class TooMany(PlatformError):
    """A rate limit; `retry_after` is in whole seconds."""

    default_code = "rate_limited"

    def __init__(self, detail: str, *, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Unavailable(PlatformError):
    """Something this needs does not answer; the detail says what and what to do."""

    default_code = "unavailable"
