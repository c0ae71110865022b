"""What may stand in the audit log: names and rights; never a secret, a token, a password or a body."""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "[hidden]"
MAX_TEXT = 200
MAX_ITEMS = 100
MAX_DEPTH = 4

_SECRET_KEY = re.compile(
    r"pass(word|wd|phrase)?|secret|token|credential|authori[sz]ation|cookie|api.?key|private|signature|"
    r"session|ticket|vault|payload|body|inputs",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]+"  # a JWT, whole or cut
    r"|whsec_[\w+/=-]+"
    r"|\b(?:Bearer|Basic)\s+\S+"
    r"|(?:argon2|pbkdf2_|bcrypt|scrypt|md5)\S*\$\S+"  # a password's hash
    r"|gAAAA[\w-]{20,}={0,2}"  # sealed (Fernet)
    r"|-----BEGIN [A-Z ]+-----"
    r"|\b(?:sk|ghp|gho|xox[abps]|aop|aoa|pat)[-_][\w-]{16,}"
    r"|://[^/\s:@]+:[^/\s@]+@",  # a password in a URL
    re.IGNORECASE,
)


def text(value: object, limit: int = MAX_TEXT) -> str:
    """`value` as one bounded line that every database takes, without what looks like a secret."""
    plain = str(value).encode("utf-8", "replace").decode().replace("\0", "")
    plain = _SECRET_TEXT.sub(HIDDEN, plain)
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def redacted(value: Any, depth: int = 0) -> Any:
    """A JSON value of names and rights, bounded in depth, width and length; what a key calls secret is hidden."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= MAX_DEPTH:
        return HIDDEN
    if isinstance(value, Mapping):
        pairs = list(value.items())[:MAX_ITEMS]
        return {
            text(key): HIDDEN
            if _SECRET_KEY.search(str(key)) and not isinstance(item, bool)
            else redacted(item, depth + 1)
            for key, item in pairs
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redacted(item, depth + 1) for item in list(value)[:MAX_ITEMS]]
    return text(value)
