"""Which containers the sweep of a worker removes: those whose attempt no worker holds any more."""

from datetime import timedelta

import pytest

from apps.core.clock import database_now
from apps.executors import Options
from apps.executors.container import caches, orphans
from apps.executors.container.orphans import Found
from apps.workers.keeper import keepers, remove_caches, remove_orphans
from apps.workflows.models import Execution
from apps.workflows.selectors.performing import executor_options, held
from apps.workflows.services import executions, workflows
from tests.integration.conftest import noop
from tests.integration.workflows.driver import accepted, claim, done, failed

pytestmark = pytest.mark.django_db

RETRIED = [noop("a", retries=1), noop("b")]


@pytest.fixture
def boxes(monkeypatch):
    """Containers that are there; the engine is this list."""
    there = []

    def remove(_options, found):
        gone = list(found)
        for each in gone:
            there.remove(each)
        return len(gone)

    monkeypatch.setattr(orphans, "found", lambda _options: list(there))
    monkeypatch.setattr(orphans, "remove", remove)
    return there


def box(task, attempt=None):
    attempt = task.fence if attempt is None else attempt
    return Found(id=f"{task.step_id}-{attempt}", task_key=str(task.task_id), attempt=attempt)


def options(tmp_path):
    return Options(work_dir=tmp_path, container_runtime="docker", installation="x")


def test_what_a_worker_holds_stays(make_workflow, owner, boxes, tmp_path):
    executions.start(make_workflow(RETRIED), by=owner)
    claimed = claim()
    boxes += [box(claimed["a"]), box(claimed["b"])]
    remove_orphans(options(tmp_path))
    assert len(boxes) == 2


def test_what_nobody_holds_is_removed(make_workflow, owner, boxes, tmp_path):
    executions.start(make_workflow(RETRIED), by=owner)
    claimed = claim()
    first, other = claimed["a"], claimed["b"]
    accepted(failed(first), done(other))
    boxes += [box(first), box(other)]
    remove_orphans(options(tmp_path))
    assert boxes == []
    second = claim()["a"]
    boxes += [box(second), box(first)]
    remove_orphans(options(tmp_path))
    assert boxes == [box(second)]


@pytest.mark.parametrize("task", ["no-uuid", "", "0190b6a0-0000-7000-8000-000000000001"])
def test_a_label_that_names_no_task_is_held_by_nobody(task, boxes, tmp_path):
    boxes.append(Found(id="1", task_key=task, attempt=1))
    remove_orphans(options(tmp_path))
    assert boxes == []


def test_only_workers_that_run_containers_on_docker_look(settings, tmp_path):
    def names():
        return {keeper.name for keeper in keepers()}

    settings.CONTAINER_RUNTIME = "docker"
    assert names() >= {"containers", "caches"}
    settings.CONTAINER_RUNTIME = "none"
    assert not names() & {"containers", "caches"}


def test_an_installation_has_a_name_that_tells_nothing(settings):
    name = executor_options().installation
    assert len(name) == 24
    assert name not in settings.SECRET_KEY
    assert executor_options().installation == name
    assert held([]) == set()


# --- caches -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(monkeypatch):
    """Cache volumes that are there; the engine is this list."""
    there = []
    monkeypatch.setattr(caches, "found", lambda _options: list(there))
    monkeypatch.setattr(caches, "remove", lambda _options, gone: len([there.remove(each) for each in gone]))
    return there


def cache(workflow):
    return caches.Found(name=f"cache of {workflow}", workflow=workflow)


def test_a_cache_goes_when_its_workflow_was_deleted_or_ran_no_more(make_workflow, owner, kept, tmp_path):
    runs, ran, rests, gone = (make_workflow([noop("a")], name=name) for name in ("Runs", "Ran", "Rests", "Gone"))
    old = database_now() - timedelta(days=31)
    for workflow in (runs, ran, rests):
        executions.start(workflow, by=owner)
    over = {"status": "completed", "open_tasks": 0, "ready_at": None, "started_at": old}
    Execution.objects.filter(workflow=rests).update(**over, finished_at=old)
    Execution.objects.filter(workflow=ran).update(**over, finished_at=database_now())
    Execution.objects.filter(workflow=runs).update(created_at=old)
    workflows.delete(gone)
    kept += [cache(slug) for slug in ("runs", "ran", "rests", "gone")]
    remove_caches(options(tmp_path))
    assert kept == [cache("runs"), cache("ran")]
    remove_caches(options(tmp_path))
    assert kept == [cache("runs"), cache("ran")]
