"""What never stands in the audit log."""

import json

import pytest

from apps.accounts.audit.redact import HIDDEN, MAX_TEXT, redacted, text

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "secret",
    [
        JWT, f"Bearer {JWT}", "Bearer abc", "Basic YWRtaW46YWRtaW4=", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "argon2$argon2id$v=19$m=102400$c2FsdA$aGFzaA", "pbkdf2_sha256$600000$salt$hash=",
        "gAAAAABmSecretSecretSecretSecret==", "-----BEGIN RSA PRIVATE KEY-----", "sk-abcdefghijklmnop1234",
        "ghp_abcdefghijklmnopqrst1234", "https://bob:hunter2@example.com/x",
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_is_hidden_wherever_it_stands(secret):
    assert HIDDEN in text(f"before {secret} after")
    told = json.dumps(redacted({"name": [secret], secret: 1}))
    assert secret not in told


@pytest.mark.parametrize(
    "key",
    [
        "password", "Passwd", "client_secret", "access_token", "API-Key", "apikey", "Authorization", "set-cookie",
        "payload", "inputs", "request_body", "privateKey", "sessionid",
    ],
)  # fmt: skip
def test_what_a_key_calls_secret_is_hidden(key):
    assert redacted({"a": {key: "hunter2", "roles": ["user"]}}) == {"a": {key: HIDDEN, "roles": ["user"]}}


@pytest.mark.parametrize("plain", ["admin", "workflow:read", "Nightly report", "é\u2028ü", "a" * MAX_TEXT, "12:30"])
def test_names_and_rights_stay(plain):
    assert text(plain) == plain


def test_everything_is_bounded():
    assert len(text("x" * 10_000)) == MAX_TEXT
    assert text("a\0b\ud800") == "ab?"
    deep = redacted({"a": {"b": {"c": {"d": {"e": 1}}}}})
    assert deep == {"a": {"b": {"c": {"d": HIDDEN}}}}
    assert len(redacted(list(range(10_000)))) == 100
