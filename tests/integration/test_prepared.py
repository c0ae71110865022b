"""Questions whose SQL is made once: the values are those of each asking, on whichever database."""

import uuid

import pytest
from django.db import connection
from django.db.models import CharField, UUIDField
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Role, User
from apps.core.prepared import Parameter, Prepared

pytestmark = pytest.mark.django_db


@pytest.fixture
def of_name():
    return Prepared(lambda: User.objects.filter(username=Parameter("name", CharField())).only("username"))


def test_each_asking_has_values_of_its_own(of_name):
    users = {name: User.objects.create(username=name) for name in ("ada", "bob")}
    assert [of_name.first(name=name) for name in ("ada", "bob", "nobody")] == [users["ada"], users["bob"], None]
    assert of_name.all(name="bob") == [users["bob"]]


def test_a_value_is_never_read_as_sql(of_name):
    hostile = "x' OR '1'='1 -- %s"
    user = User.objects.create(username=hostile)
    User.objects.create(username="other")
    assert of_name.all(name=hostile) == [user]


def test_what_was_left_out_is_read_when_it_is_asked_for(of_name):
    User.objects.create(username="ada", email="ada@example.com")
    found = of_name.first(name="ada")
    assert found.get_deferred_fields() >= {"email", "password"}
    assert found.email == "ada@example.com"


def test_values_are_converted_as_their_fields_say():
    of_key = Prepared(lambda: User.objects.filter(pk=Parameter("key", UUIDField())))
    user = User.objects.create(username="ada")
    assert of_key.first(key=user.pk) == of_key.first(key=str(user.pk)) == user
    assert of_key.first(key=uuid.uuid4()) is None
    assert of_key.first(key=user.pk).date_joined == user.date_joined


def test_rows_are_as_the_database_gives_them_and_compiled_once():
    calls = []

    def build():
        calls.append(1)
        return Role.objects.filter(name=Parameter("name", CharField())).values_list("name", "description")

    pairs = Prepared(build)
    with CaptureQueriesContext(connection) as asked:
        for _ in range(3):
            assert pairs.rows(name="admin") == [("admin", Role.objects.get(name="admin").description)]
    assert len(calls) == 1
    assert len(asked.captured_queries) == 6


def test_a_value_that_is_missing_is_an_error_and_no_wider_question(of_name):
    with pytest.raises(KeyError):
        of_name.all()
