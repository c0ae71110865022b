"""A9: who performs a step is told by name to those who may read such performers, and by kind to everybody else."""

from dataclasses import replace

import pytest
from django.core.cache import cache
from django.test import Client

from apps.accounts import tokens
from apps.accounts.models import Permission, Role, User
from apps.agents import ledger, services
from apps.progress.feed import _read as frames_of
from apps.workflows.models import Task
from apps.workflows.services import executions, leases, workflows
from apps.workflows.services.ledger import lanes
from orchestration import matrix
from tests.integration.matrix import world as worlds
from tests.integration.workflows.driver import claim

pytestmark = pytest.mark.django_db
AGENT, WORKER = "whisper-7", "deep-host-4711"
STEPS = [
    {"id": "told", "agent": {"requires": ["kind == reviewer"]}},
    {"id": "other", "agent": {"requires": ["kind == reviewer", "gpu"]}},
    {"id": "line", "agent": {"requires": ["kind == reviewer"]}},
    {"id": "ours", "python": "builtin.noop"},
]
# What reads executions and all that is about them, but neither agents nor workers.
READS = ("workflow:read", "task:read", "progress:read", "monitoring:read")


@pytest.fixture
def thing(settings):
    """Something of everything, with an execution of which an agent and a worker perform a step each."""
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": False})
    cache.clear()
    owner = User.objects.create(username="owner")
    thing = worlds.made("a-thing", owner)
    workflow = workflows.create({"name": "performed", "steps": STEPS}, by=owner)
    lanes.forget()
    execution = executions.start(workflow, by=owner)
    agent, _ = services.register(AGENT, labels={"kind": "reviewer"}, slots=1, by=owner)
    leases.beat(owner=WORKER, kind="worker", slots=1, held=[], lease_seconds=30)
    assert claim(owner=WORKER)
    assert [one.step_id for one in ledger.claim(agent, 1)] == ["told"]
    task = Task.objects.get(execution=execution, step_id="told")
    yield replace(thing, workflow=workflow, execution=execution, task=task)
    cache.clear()
    lanes.forget()


def reader(*codes):
    """An account with these permissions, and its browser."""
    role = Role.objects.create(name=f"reader-{Role.objects.count()}")
    role.permissions.set(Permission.objects.filter(code__in=codes))
    user = User.objects.create(username=role.name)
    user.roles.add(role)
    browser = Client(headers={"Authorization": f"Bearer {tokens.issue(user).access_token}", "Accept": "text/html,*/*"})
    browser.force_login(user)
    return browser


def told(client, thing):
    """What routes and pages of the admin that read say to a caller, by where."""
    asked = [route for route in matrix.ROUTES if route.startswith("GET ") and not route.endswith("/stream")]
    answers = {route: worlds.ask(client, route, thing) for route in asked}
    why = [f"/tasks/{pk}/why" for pk in Task.objects.filter(execution=thing.execution).values_list("pk", flat=True)]
    admin = "/admin/workflows"
    pages = (f"{admin}/performer/", f"{admin}/task/", f"{admin}/task/{thing.task.pk}/change/", *why)
    answers |= {page: client.get(page) for page in pages}
    assert sum(answer.status_code == 200 for answer in answers.values()) > 25
    return {where: answer.content.decode() for where, answer in answers.items() if not answer.streaming}


def naming(texts, *names):
    """Where one of these names stands."""
    return {where for where, text in texts.items() if any(name in text for name in names)}


def test_a09_nothing_names_a_performer_that_one_may_not_read(thing):
    assert naming(told(reader(*READS), thing), AGENT, WORKER) == set()
    # Who operates the workers, but may not read agents, is told of no agent; the audit log has everything by right.
    operator = reader(*READS, "system:read")
    texts = told(operator, thing)
    assert naming(texts, AGENT) <= {"GET /audit"}
    assert "GET /workers" in naming(texts, WORKER)
    assert (
        operator.get(f"/admin/workflows/performer/agent:{AGENT}/change/").status_code == 302
    )  # as for one that never was
    found = f"/admin/workflows/task/?lease_owner__startswith=agent:{AGENT[:3]}"
    assert operator.get(found).status_code == 400
    by_search = operator.get(f"/admin/workflows/task/?q={AGENT}").content.decode()
    assert str(thing.task.pk) not in by_search


def test_a09_positive_control_whoever_may_read_performers_finds_their_names(thing):
    found = naming(told(reader(*READS, "agent:read", "system:read"), thing), AGENT)
    assert {
        "GET /agents", "GET /workers", "GET /queues", "GET /tasks", "GET /tasks/{id}", "GET /tasks/{id}/why",
        "GET /executions/{id}/tasks", "GET /executions/{id}/events", "GET /executions/{id}/why",
        "GET /ui/executions/{execution_id}", "/admin/workflows/task/",
    } <= found  # fmt: skip


def test_a09_one_text_goes_to_all_who_watch_and_has_the_kind_alone(thing):
    lines = [frame.text for frame in frames_of(thing.execution.pk, "performed", 0, 100)]
    began = [line for line in lines if '"event":"task.started"' in line]
    assert sorted('"performer":"agent"' in line for line in began) == [False, True]
    assert sorted('"performer":"worker"' in line for line in began) == [False, True]
    assert not [line for line in lines if AGENT in line or WORKER in line]
