"""The signing key is changed without ending anybody's session: two keys live, then one."""

import jwt
import pytest
from django.conf import settings

from apps.accounts import tokens
from tests.integration.accounts.test_tokens import me, signed

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.accounts.urls")]

OLD = "old-signing-key-" + "0123456789" * 4


def refresh(http, pair):
    return http.post("/auth/refresh", {"refresh_token": pair["refresh_token"]}, "application/json")


def test_a2_an_old_key_holds_while_it_is_named_and_signs_nothing_new(http, make_user, login, settings):
    make_user("ann", "user")
    new = settings.JWT_SIGNING_KEY
    settings.JWT_SIGNING_KEY = OLD
    before = login("ann").json()

    settings.JWT_SIGNING_KEY, settings.JWT_SIGNING_KEYS_OLD = new, (OLD,)
    assert me(http, before["access_token"]).status_code == 200
    renewed = refresh(http, before)
    assert renewed.status_code == 200
    assert jwt.get_unverified_header(renewed.json()["access_token"])["kid"] == tokens.key_id(new)

    settings.JWT_SIGNING_KEYS_OLD = ()
    assert me(http, before["access_token"]).status_code == 401
    assert me(http, renewed.json()["access_token"]).status_code == 200


FORGED = {
    "the kid of another key": lambda: signed(headers={"kid": tokens.key_id(OLD)}),
    "the old key under the new kid": lambda: signed(OLD, headers={"kid": tokens.key_id(settings.JWT_SIGNING_KEY)}),
    "the old key without kid": lambda: signed(OLD),
    "a kid that is a path": lambda: signed(headers={"kid": "../../dev/null"}),
    "a kid that is empty": lambda: signed(headers={"kid": ""}),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a2_kid_chooses_among_our_keys_and_nothing_else(http, make_user, login, settings, kind):
    settings.JWT_SIGNING_KEYS_OLD = (OLD,)
    make_user("ann", "user")
    login("ann")
    assert me(http, FORGED[kind]()).status_code == 401
    assert me(http, signed(OLD, headers={"kid": tokens.key_id(OLD)})).status_code == 200
