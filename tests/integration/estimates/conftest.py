"""Executions whose steps took as long as a test says, and a performer that is there."""

from datetime import timedelta

import pytest

from apps.core.clock import database_now
from apps.workflows.models import Execution, Performer, Task
from apps.workflows.selectors.relations import whole_steps
from apps.workflows.services import executions
from apps.workflows.services.estimates.folding import fold
from tests.integration.progress.conftest import Caller
from tests.integration.workflows.driver import drive


@pytest.fixture(autouse=True)
def performer(db, set_env):
    """One worker with four slots, which counts as live however long a test takes."""
    set_env(LEASE_SECONDS=3600)
    return Performer.objects.create(
        name="w1", kind="worker", slots=4, load=0, seen_at=database_now(), started_at=database_now(), labels={}
    )


@pytest.fixture
def reader(make_user):
    return Caller(make_user("guest"))


@pytest.fixture
def nobody(make_user):
    return Caller(make_user())


@pytest.fixture
def reporter(make_user):
    return Caller(make_user("agent"))


def stretch(execution, **seconds):
    """Have a completed execution's steps have taken so long, one after the other."""
    execution.refresh_from_db()
    end = execution.finished_at
    at = end - timedelta(seconds=sum(seconds.values()))
    Execution.objects.filter(pk=execution.pk).update(started_at=at, created_at=at)
    for name, took in seconds.items():
        Task.objects.filter(execution=execution, step_id=name).update(
            started_at=at, finished_at=at + timedelta(seconds=took)
        )
        at += timedelta(seconds=took)
    assert set(seconds) == {task.step_id for task in whole_steps(execution.pk)}


@pytest.fixture
def past(owner):
    """`past(workflow, {"a": 10, "b": 20}, …)`: completed executions, learnt from."""

    def make(workflow, *runs, learnt=True):
        made = []
        for run in runs:
            execution = executions.start(workflow, by=owner)
            drive()
            stretch(execution, **run)
            made.append(execution)
            if learnt:
                assert fold(workflow.pk) >= 1
        return made

    return make
