"""Nobody is told of anything before it is committed: a doorbell finds what it rings for, and a rollback rings none."""

import pytest
from django.db import connection, transaction

from apps.core import bell
from apps.workflows.services import executions
from tests.integration.conftest import noop
from tests.integration.workflows.driver import claim, done, turn, wanted

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def rings(monkeypatch):
    heard = []
    monkeypatch.setattr(bell, "ring", lambda topic, ids=(): heard.append((topic, connection.in_atomic_block)))
    return heard


def test_every_ring_comes_after_its_commit(make_workflow, owner, rings):
    execution = executions.start(make_workflow([noop("a"), noop("b", "a")]), by=owner)
    (task,) = claim().values()
    turn([done(task)], wanted())
    executions.cancel(execution, by=owner)
    assert len(rings) >= 4, "the control: it does ring"
    assert not [topic for topic, within in rings if within]


def test_what_is_undone_rings_nothing(make_workflow, owner, rings):
    workflow = make_workflow([noop("a")])
    with transaction.atomic():
        executions.start(workflow, by=owner)
        transaction.set_rollback(True)
    assert not rings
