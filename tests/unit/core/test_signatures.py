"""Signed messages: the scheme's own example, and everything that must not pass."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.signatures import TOLERANCE, is_secret, new_secret, sign, signed_message

# The test vector of the reference libraries of Standard Webhooks.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
NOW = datetime.fromtimestamp(1614265330, UTC)

# The example of GitHub's documentation ("Validating webhook deliveries").
GITHUB_SECRET = "It's a Secret to Everybody"
GITHUB_BODY = b"Hello, World!"
GITHUB_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


def headers(**changes):
    given = {"webhook-id": MESSAGE_ID, "webhook-timestamp": "1614265330", "webhook-signature": SIGNATURE}
    return {**given, **{name.replace("_", "-"): value for name, value in changes.items()}}


def test_the_reference_librarys_example():
    assert sign(SECRET, message_id=MESSAGE_ID, timestamp=1614265330, body=BODY) == SIGNATURE
    assert signed_message(SECRET, headers(), BODY, now=NOW) == MESSAGE_ID


def test_githubs_example():
    given = {"x-hub-signature-256": GITHUB_SIGNATURE, "x-github-delivery": "72d3162e"}
    assert signed_message(GITHUB_SECRET, given, GITHUB_BODY, now=NOW) == "72d3162e"
    for wrong in (
        {"x-github-delivery": "72d3162e"},
        {"x-hub-signature-256": GITHUB_SIGNATURE},
        {**given, "x-hub-signature-256": GITHUB_SIGNATURE.removeprefix("sha256=")},
        {**given, "x-github-delivery": "a\nb"},
    ):
        assert signed_message(GITHUB_SECRET, wrong, GITHUB_BODY, now=NOW) is None
    assert signed_message(GITHUB_SECRET, given, GITHUB_BODY + b" ", now=NOW) is None


@pytest.mark.parametrize(
    "signature", [f"v1,AAAA {SIGNATURE}", f"{SIGNATURE} v1a,AAAA", f"v2,x {SIGNATURE} {SIGNATURE}"]
)
def test_one_right_signature_among_several_is_enough(signature):
    assert signed_message(SECRET, headers(webhook_signature=signature), BODY, now=NOW) == MESSAGE_ID


@pytest.mark.parametrize(
    "changes",
    [
        {"webhook_signature": ""},
        {"webhook_signature": SIGNATURE.removeprefix("v1,")},
        {"webhook_signature": SIGNATURE.replace("v1,", "v2,")},
        {"webhook_signature": SIGNATURE[:-1]},
        {"webhook_signature": SIGNATURE + "="},
        {"webhook_signature": "v1,é"},
        {"webhook_signature": "x " * 50 + SIGNATURE},
        {"webhook_id": "msg_other"},
        {"webhook_id": ""},
        {"webhook_timestamp": "1614265331"},
        {"webhook_timestamp": "01614265330"},
        {"webhook_timestamp": "1614265330.0"},
        {"webhook_timestamp": "١٦١٤٢٦٥٣٣٠"},
        {"webhook_timestamp": "9" * 5000},
        {"webhook_timestamp": ""},
    ],
)
def test_a_message_that_was_touched_is_not_signed(changes):
    assert signed_message(SECRET, headers(**changes), BODY, now=NOW) is None


def test_another_body_or_secret_is_not_signed():
    assert signed_message(SECRET, headers(), BODY + b" ", now=NOW) is None
    assert signed_message(new_secret(), headers(), BODY, now=NOW) is None
    assert signed_message(SECRET, {}, BODY, now=NOW) is None


@pytest.mark.parametrize("direction", [-1, 1])
def test_a_timestamp_holds_five_minutes_in_both_directions(direction):
    assert signed_message(SECRET, headers(), BODY, now=NOW + direction * TOLERANCE) == MESSAGE_ID
    later = NOW + direction * (TOLERANCE + timedelta(seconds=1))
    assert signed_message(SECRET, headers(), BODY, now=later) is None


@pytest.mark.parametrize("message_id", ["a" * 257, "a\tb", "é"])
def test_an_id_is_short_printable_ascii(message_id):
    signature = sign(SECRET, message_id=message_id, timestamp=1614265330, body=BODY)
    given = headers(webhook_id=message_id, webhook_signature=signature)
    assert signed_message(SECRET, given, BODY, now=NOW) is None


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")), st.binary())
def test_nothing_that_is_sent_is_an_error(name, value, body):
    sent = {"webhook-id": name, "webhook-timestamp": value, "webhook-signature": value}
    assert signed_message(SECRET, sent, body, now=NOW) is None


def test_secrets_are_known_by_their_form():
    assert is_secret(new_secret())
    assert is_secret(SECRET)
    assert new_secret() != new_secret()
    for wrong in (
        "",
        "whsec_",
        "whsec_AAAA",
        "whsec_é",
        "whsec_" + "A" * 200,
        SECRET.removeprefix("whsec_"),
        "whsec_…",
    ):
        assert not is_secret(wrong)
