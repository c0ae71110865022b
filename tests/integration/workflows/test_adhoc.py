"""`POST /tasks`: a single step is executed without a workflow that somebody would have to name."""

import threading

import pytest
from django.db import connection

from apps.accounts.models import User
from apps.workflows.models import Execution, Workflow, WorkflowVersion
from apps.workflows.services import adhoc, executions, workflows
from tests.integration.conftest import noop
from tests.integration.workflows.driver import claim, drive

pytestmark = pytest.mark.django_db

ECHO = {"python": {"call": "builtin.echo", "with": {"text": "${inputs.text}"}}}


@pytest.fixture
def api(as_user):
    client = as_user("admin")
    client.user.username = "Bob Builder"
    client.user.save()
    return client


def post(client, **body):
    return client.post("/tasks", body, format="json")


def started(client, **body):
    answer = post(client, **body)
    assert answer.status_code == 202, answer.content
    return answer.json()


def test_a_task_is_an_execution_of_one_step(api):
    told = started(api, **ECHO, inputs={"text": "hello"}, priority=5)
    assert set(told) == {"execution_id", "task_id", "workflow_id", "status"}
    assert (told["workflow_id"], told["status"]) == ("tasks-bob-builder", "pending")
    task = api.get(f"/tasks/{told['task_id']}").json()
    assert (task["execution_id"], task["step_id"]) == (told["execution_id"], "task")
    assert claim()["task"].config["with"] == {"text": "hello"}
    execution = api.get(f"/executions/{told['execution_id']}").json()
    assert (execution["priority"], execution["inputs"]) == (5, {"text": "hello"})


def test_it_ends_like_any_execution(api):
    told = started(api, python="builtin.noop", id="mine")
    drive()
    assert api.get(f"/executions/{told['execution_id']}").json()["status"] == "completed"
    assert api.get(f"/tasks/{told['task_id']}").json()["step_id"] == "mine"


def test_an_equal_task_uses_its_version_again(api):
    first = started(api, **ECHO, inputs={"text": "a"})
    started(api, python="builtin.noop")
    again = started(api, **ECHO, inputs={"text": "b"})
    versions = [Execution.objects.get(pk=one["execution_id"]).version.number for one in (first, again)]
    assert versions == [1, 1]
    assert WorkflowVersion.objects.count() == 2
    assert Workflow.objects.get().version_number == 2


def test_everybody_has_a_workflow_of_his_own_and_the_list_leaves_them_out(api, as_user):
    other = as_user("admin")
    started(api, python="builtin.noop")
    started(other, python="builtin.noop")
    workflows.create({"name": "Report", "steps": [noop("a")]}, by=api.user)
    assert Workflow.objects.filter(kind="tasks").count() == 2
    assert [one["id"] for one in api.get("/workflows").json()["results"]] == ["report"]
    assert len(api.get("/workflows?kind=tasks").json()["results"]) == 2
    assert [one["id"] for one in api.get("/workflows?kind=workflow").json()["results"]] == ["report"]
    assert api.get("/workflows/tasks-bob-builder").json()["kind"] == "tasks"


@pytest.mark.parametrize("names", [("a.b", "ab"), ("Ünal", "unal"), ("日本", "本日"), ("x" * 150, "x" * 149)])
def test_names_that_look_alike_share_nothing(as_user, names):
    slugs = set()
    for name in names:
        client = as_user("admin")
        client.user.username = name
        client.user.save()
        slugs.add(started(client, python="builtin.noop")["workflow_id"])
    assert len(slugs) == 2


def test_a_workflow_of_that_name_is_nobodys_hindrance(api):
    workflows.create({"name": "Tasks Bob Builder", "steps": [noop("a")]}, by=api.user)
    assert started(api, python="builtin.noop")["workflow_id"] == f"tasks-{api.user.pk.hex}"


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"python": "builtin.nop", "retrys": 3}, {"/python", "/retrys"}),
        ({}, {""}),
        ({"python": "builtin.noop", "id": None}, {"/id"}),
        ({"python": "builtin.noop", "depends_on": ["b"]}, {"/depends_on/0"}),
        (ECHO, {"/python/with/text"}),
        ({"python": "builtin.noop", "inputs": []}, {"/inputs"}),
        ({"python": "builtin.noop", "priority": 10**30}, {"/priority"}),
        ({"python": "builtin.noop", "priority": "high"}, {"/priority"}),
        ({"python": {"call": "builtin.echo", "with": {"x": "\0"}}}, {"/python/with/x"}),
    ],
)
def test_every_mistake_is_told_where_it_stands_in_what_was_sent(api, body, pointers):
    answer = api.post("/tasks", body, format="json")
    assert answer.status_code == 400
    assert {error["pointer"] for error in answer.json()["errors"]} == pointers
    assert not Execution.objects.exists()
    assert not WorkflowVersion.objects.exists()


@pytest.mark.parametrize("text", ["[]", "3", '"x"', "null", "[[[", ""])
def test_what_is_no_step_is_a_400(api, text):
    assert api.post("/tasks", text, content_type="application/json").status_code == 400
    assert not Workflow.objects.exists()


@pytest.mark.parametrize("role", ["nobody", "guest", "agent", "system", "user"])
def test_it_needs_task_create(as_user, role):
    client = as_user(None if role == "nobody" else role)
    assert post(client, python="builtin.noop").status_code == 403
    assert not Workflow.objects.exists()


def test_a_key_makes_one_task(api):
    answers = [
        api.post("/tasks", {"python": "builtin.noop"}, format="json", headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    assert answers[0].json() == answers[1].json()
    assert Execution.objects.count() == 1


def test_its_versions_are_not_changed_by_hand(api):
    told = started(api, python="builtin.noop")
    answer = api.put(f"/workflows/{told['workflow_id']}", {"name": "x", "steps": [noop("a")]}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "tasks")


def test_an_execution_may_be_of_an_older_version(make_workflow, owner):
    workflow = make_workflow([noop("old")])
    first = workflow.versions.get()
    workflows.update(workflow, {"name": workflow.name, "steps": [noop("new")]}, by=owner)
    workflow.refresh_from_db()
    assert executions.start(workflow, by=owner, version=first).version == first
    assert executions.start(workflow, by=owner).version.number == 2


@pytest.mark.django_db(transaction=True)
def test_first_tasks_at_the_same_time_share_a_workflow_and_a_version(make_user):
    user = make_user("admin")
    begin, failures = threading.Barrier(4), []

    def start():
        try:
            begin.wait(60)
            adhoc.start({"python": "builtin.noop"}, by=User.objects.get(pk=user.pk))
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures
    assert (Workflow.objects.count(), WorkflowVersion.objects.count(), Execution.objects.count()) == (1, 1, 4)
