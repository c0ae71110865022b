"""What a performer remembers of the executions that it wrote last, and when it must not believe it."""

import pytest
from django.db import connection, transaction

from apps.core.clock import BELIEVED_SECONDS, carried_now, database_now, sample
from apps.workflows.engine.types import Accept, Reject
from apps.workflows.models import Execution, Task
from apps.workflows.services import executions, leases, priorities
from apps.workflows.services.ledger import sql
from apps.workflows.services.ledger.memory import MOST, memory
from tests.integration.conftest import noop
from tests.integration.workflows.driver import accepted, check_rows, done, drive, wanted

pytestmark = pytest.mark.django_db(transaction=True)

CHAIN = [noop("a"), noop("b", "a"), noop("c", "b"), noop("d", "c"), noop("e", "d")]


@pytest.fixture(autouse=True)
def nothing_known():
    memory.forget()


def first(make_workflow, owner, steps=CHAIN):
    execution = executions.start(make_workflow(steps), by=owner)
    (task,) = accepted(then=wanted(1)).claimed
    return execution, task


def go_on(task, **then):
    return accepted(done(task), then=wanted(1, look=False, **then))


@pytest.fixture
def statements(monkeypatch):
    """The statements that the ledger sends."""
    sent = []
    made = sql.dialect.new_cursor

    class Counted:
        def __init__(self):
            self._cursor = made()

        def __getattr__(self, name):
            return getattr(self._cursor, name)

        def execute(self, statement, *values):
            sent.append(statement)
            return self._cursor.execute(statement, *values)

        def executemany(self, statement, *values):
            sent.append(statement)
            return self._cursor.executemany(statement, *values)

    monkeypatch.setattr(sql.dialect, "new_cursor", Counted)
    return sent


def test_a_chain_of_ones_own_is_one_statement_a_step_on_postgresql(make_workflow, owner, statements):
    execution, task = first(make_workflow, owner)
    for _ in range(4):
        statements.clear()
        (task,) = go_on(task).claimed
    if connection.vendor == "postgresql":
        assert len(statements) == 1
    else:
        assert not any("FROM workflows_task" in statement and "item" not in statement for statement in statements[2:])
    go_on(task)
    check_rows(execution)
    assert execution.status == "completed"


def test_what_becomes_ready_by_several_reports_is_taken_from_the_oldest_executions(make_workflow, owner):
    workflow = make_workflow(CHAIN)
    made = [executions.start(workflow, by=owner).pk for _ in range(6)]
    tasks = accepted(then=wanted(6)).claimed
    claimed = accepted(*map(done, reversed(tasks)), then=wanted(4, look=False)).claimed
    assert [(task.execution_id, task.step_id) for task in claimed] == [(one, "b") for one in made[:4]]


def test_what_another_has_changed_is_not_overwritten(make_workflow, owner):
    execution, task = first(make_workflow, owner)
    (task,) = go_on(task).claimed
    priorities.change(execution, 7, by=owner)
    (task,) = go_on(task).claimed
    assert task.step_id == "c"
    execution.refresh_from_db()
    assert execution.priority == 7
    executions.cancel(execution, by=owner)
    assert go_on(task).claimed == ()
    check_rows(execution)
    assert execution.status == "cancelled"


def test_a_lease_that_was_taken_away_stays_so(make_workflow, owner):
    execution, task = first(make_workflow, owner)
    (task,) = go_on(task, lease=-1).claimed
    leases.reap()
    from apps.workflows.services.ledger import turn

    result = turn([done(task)], wanted(1, look=False))
    assert isinstance(result.answers[0], Reject)
    assert result.answers[0].code == "stale_attempt"
    drive()
    check_rows(execution)
    assert execution.status == "completed"


def test_a_revision_rises_with_every_change_of_the_execution_or_its_tasks(make_workflow, owner):
    execution, task = first(make_workflow, owner)
    seen = {Execution.objects.values_list("revision", flat=True).get(pk=execution.pk)}
    while task:
        claimed = go_on(task).claimed
        task = claimed[0] if claimed else None
        now = Execution.objects.values_list("revision", flat=True).get(pk=execution.pk)
        assert now not in seen
        seen.add(now)
    assert seen == set(range(min(seen), max(seen) + 1))


def test_what_may_be_undone_is_not_remembered(make_workflow, owner):
    execution, task = first(make_workflow, owner)
    memory.forget()
    with transaction.atomic():
        assert isinstance(go_on(task).answers[0], Accept)
        assert not memory.take([execution.pk])
        transaction.set_rollback(True)
    (task,) = go_on(task).claimed
    assert task.step_id == "b"


def test_a_fan_in_of_two_performers_starts_once(make_workflow, owner):
    execution = executions.start(make_workflow([noop("a"), noop("b"), noop("c", "a", "b"), noop("d", "c")]), by=owner)
    (one,) = accepted(then=wanted(1, owner="w1")).claimed
    mine = memory.take([execution.pk])
    (two,) = accepted(then=wanted(1, owner="w2")).claimed
    assert accepted(done(two), then=wanted(0)).claimed == ()
    memory.take([execution.pk])
    memory._known.update(mine)  # what w1 knew before w2 came
    (three,) = accepted(done(one), then=wanted(1, owner="w1", look=False)).claimed
    assert three.step_id == "c"
    assert Task.objects.get(pk=three.task_id).fence == 1
    go_on(go_on(three).claimed[0])
    check_rows(execution)
    assert execution.status == "completed"


def test_a_memory_has_room_for_so_many(make_workflow, owner):
    workflow = make_workflow(CHAIN)
    for _ in range(3):
        executions.start(workflow, by=owner)
    claimed = accepted(then=wanted(3)).claimed
    assert len(memory.take({task.execution_id for task in claimed})) == 3
    assert MOST > 3


def test_a_carried_time_is_never_ahead_of_the_database():
    for _ in range(20):
        carried = carried_now()
        assert carried <= database_now()
    assert abs((database_now() - carried_now()).total_seconds()) < BELIEVED_SECONDS


def test_of_two_readings_the_one_that_is_ahead_is_carried_on():
    if connection.vendor == "sqlite":
        assert carried_now() <= database_now()
        return
    told = database_now()
    carried = carried_now()
    sample(told.replace(year=told.year - 1))  # it took long to arrive
    assert carried_now() >= carried
