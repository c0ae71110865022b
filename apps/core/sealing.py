"""Secrets at rest: sealed before they are stored, unsealed where they are used, never in an answer.

Fernet (AES-128-CBC, HMAC-SHA256) under `VAULT_KEYS`: the first key seals, every one opens. Where none is given, a key
is derived from `SECRET_KEY`. That one opens afterwards as well, so that giving the first key loses nothing.
"""

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from apps.core.errors import Unavailable

UNKNOWN_KEY = "unknown_vault_key"


def seal(text: str) -> str:
    """`text` as ASCII that only this installation's keys open; sealing it again gives another."""
    return _vault().encrypt(text.encode()).decode("ascii")


def unseal(text: str) -> str:
    """What was sealed. Raises `Unavailable` ("unknown_vault_key") where no key of this installation opens it."""
    try:
        return _vault().decrypt(text.encode()).decode()
    except InvalidToken:
        raise Unavailable(
            "A stored secret was sealed with a key that this installation does not have: add that key to VAULT_KEYS, "
            "or store the secret anew.",
            code=UNKNOWN_KEY,
        ) from None


def reseal(text: str) -> str:
    """The same sealed under the first key; `text` itself where it is already. Raises `Unavailable` as `unseal`."""
    plain = unseal(text)
    try:
        first = settings.VAULT_KEYS[0] if settings.VAULT_KEYS else _derived(settings.SECRET_KEY)
        Fernet(first).decrypt(text.encode())
    except InvalidToken:
        return seal(plain)
    return text


def _vault() -> MultiFernet:
    return _opened(tuple(settings.VAULT_KEYS), settings.SECRET_KEY)


@lru_cache(maxsize=4)
def _opened(keys: tuple[str, ...], secret_key: str) -> MultiFernet:
    return MultiFernet([*map(Fernet, keys), Fernet(_derived(secret_key))])


def _derived(secret_key: str) -> bytes:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"vault").derive(secret_key.encode())
    return base64.urlsafe_b64encode(derived)
