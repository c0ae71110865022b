"""Secrets at rest: what the present keys sealed they open, and nothing else does."""

import base64

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from apps.core.errors import Unavailable
from apps.core.sealing import seal, unseal
from orchestration.environment import UnsafeEnvironment, read

# Fixed, so that every process of a test run collects the same tests.
OLD, NEW = (base64.urlsafe_b64encode(bytes([byte]) * 32).decode() for byte in (7, 99))


@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_what_is_sealed_is_opened_again(text):
    sealed = seal(text)
    assert unseal(sealed) == text
    assert sealed.isascii()
    assert len(text) < 4 or text not in sealed


def test_sealing_twice_gives_two_texts():
    assert seal("secret") != seal("secret")


def test_the_newest_key_seals_and_every_key_opens(settings):
    settings.VAULT_KEYS = (OLD,)
    before = seal("secret")
    settings.VAULT_KEYS = (NEW, OLD)
    assert unseal(before) == "secret"
    assert Fernet(NEW).decrypt(seal("later")) == b"later"


def test_the_first_key_of_an_installation_loses_nothing(settings):
    before = seal("secret")
    settings.VAULT_KEYS = (NEW,)
    assert unseal(before) == "secret"


def test_an_unknown_key_is_told_with_the_setting_that_mends_it(settings):
    settings.VAULT_KEYS = (OLD,)
    sealed = seal("secret")
    settings.VAULT_KEYS = (NEW,)
    with pytest.raises(Unavailable, match="VAULT_KEYS") as refused:
        unseal(sealed)
    assert refused.value.code == "unknown_vault_key"


def test_a_derived_key_belongs_to_its_secret_key(settings):
    sealed = seal("secret")
    settings.SECRET_KEY = "another-" + "0123456789" * 4
    with pytest.raises(Unavailable):
        unseal(sealed)


@pytest.mark.parametrize("text", ["", "plain", "é", "gAAAAA", "\0", "=" * 100])
def test_what_was_never_sealed_is_refused_the_same_way(text):
    with pytest.raises(Unavailable):
        unseal(text)


def test_a_sealed_text_that_was_touched_is_refused():
    sealed = seal("secret")
    with pytest.raises(Unavailable):
        unseal(sealed[:20] + ("A" if sealed[20] != "A" else "B") + sealed[21:])


@pytest.mark.parametrize("wrong", ["short", f"{NEW},tooshort", f"{NEW[:-1]}é", "A" * 44])
def test_a_wrong_key_is_refused_by_name_and_not_repeated(wrong):
    with pytest.raises(UnsafeEnvironment) as refused:
        read({"VAULT_KEYS": wrong})
    (line,) = refused.value.lines
    assert line.startswith("VAULT_KEYS=")
    assert wrong not in line
    assert NEW not in line


def test_keys_are_a_list_newest_first():
    assert read({"VAULT_KEYS": f"{NEW}, {OLD}"}).VAULT_KEYS == (NEW, OLD)
    assert read({}).VAULT_KEYS == ()


@pytest.mark.parametrize(("name", "value"), [("EMAIL_PORT", "0"), ("EMAIL_FROM", "nobody"), ("EMAIL_USE_TLS", "so")])
def test_a_wrong_setting_of_mail_is_refused_by_name(name, value):
    with pytest.raises(UnsafeEnvironment, match=f"{name}="):
        read({name: value})
