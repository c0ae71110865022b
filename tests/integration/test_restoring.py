"""After a test that committed, the database is as its migrations left it."""

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection

from apps.accounts.models import Role, User
from apps.workflows.models import Execution
from apps.workflows.services import executions, workflows
from tests.integration.conftest import noop
from tests.support.restoring import KEPT


def rows():
    """Every row of every table."""
    with connection.cursor() as cursor:
        found = {}
        for name in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(name)}")
            found[name] = sorted(cursor.fetchall(), key=repr)
        return found


@pytest.mark.django_db(transaction=True)
def test_every_table_has_its_first_rows_again(restorer, make_user):
    first = rows()
    assert len(first["accounts_role"]) == len(first[f"{KEPT}accounts_role"]) == 5
    assert not first["accounts_user"]
    owner = make_user("user")
    executions.start(workflows.create({"name": "w", "steps": [noop("a"), noop("b", "a")]}, by=owner), by=owner)
    Role.objects.filter(name="guest").delete()
    Role.objects.filter(name="admin").update(description="changed")
    User.objects.create(username="another").roles.add(Role.objects.create(name="more"))
    ContentType.objects.create(app_label="gone", model="gone")
    assert Execution.objects.exists()
    assert rows() != first
    restorer.restore()
    assert rows() == first


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("time", ["first", "next"])
def test_a_test_sees_nothing_of_one_that_committed(make_user, time):
    assert not User.objects.exists()
    assert sorted(Role.objects.values_list("name", flat=True)) == ["admin", "agent", "guest", "system", "user"]
    make_user("user")
    Role.objects.filter(name="guest").delete()
