"""REST for workflows, executions and tasks: what callers send, get, and may not."""

import json

import pytest
from guardian.shortcuts import assign_perm
from rest_framework.test import APIClient

from apps.workflows.models import Execution, Workflow
from tests.integration.conftest import noop
from tests.integration.workflows.driver import claim, done, drive, turn

pytestmark = pytest.mark.django_db

DEFINITION = {"name": "Daily report", "tags": ["finance"], "steps": [noop("a"), noop("b", "a")]}
FIVE_MISTAKES = """
name: Five mistakes
inputs: {date: {type: string}}
steps:
  - id: fetch
    command: ["echo", "${inputs.dat}"]
    retrys: 3
  - id: fetch
    command: ["echo", "again"]
  - id: left
    depends_on: [right]
    command: ["echo"]
  - id: right
    depends_on: [left, fetsh]
    command: ["echo"]
"""


@pytest.fixture
def as_user(make_user):
    """A client that is somebody: `as_user("user")`."""

    def make(role_or_user=None):
        client = APIClient()
        user = make_user(role_or_user) if isinstance(role_or_user, str) or role_or_user is None else role_or_user
        client.force_authenticate(user)
        client.user = user
        return client

    return make


@pytest.fixture
def api(as_user):
    return as_user("user")


def created(client, definition=DEFINITION):
    answer = client.post("/workflows", definition, format="json")
    assert answer.status_code == 201, answer.content
    return answer.json()


def started(client, workflow="daily-report", **body):
    answer = client.post(f"/workflows/{workflow}/execute", body, format="json")
    assert answer.status_code == 202, answer.content
    return answer.json()


def test_a_definition_is_saved_and_shown_with_its_id(api):
    made = created(api)
    assert (made["id"], made["version"], made["tags"]) == ("daily-report", 1, ["finance"])
    assert api.get("/workflows/daily-report").json()["definition"] == DEFINITION
    assert [w["id"] for w in api.get("/workflows").json()["results"]] == ["daily-report"]


@pytest.mark.parametrize("media_type", ["application/yaml", "application/x-yaml", "text/yaml"])
def test_yaml_is_as_good_as_json(api, media_type):
    answer = api.post(
        "/workflows", "name: From YAML\nsteps:\n- {id: a, python: builtin.noop}\n", content_type=media_type
    )
    assert answer.status_code == 201
    assert answer.json()["id"] == "from-yaml"


def test_one_answer_names_all_five_mistakes(api):
    for path, status in (("/workflows", 400), ("/workflows/validate", 200)):
        answer = api.post(path, FIVE_MISTAKES, content_type="application/yaml")
        assert answer.status_code == status
        assert {(e["pointer"], e["code"]) for e in answer.json()["errors"]} == {
            ("/steps/0/command/1", "unknown_input"),
            ("/steps/0/retrys", "unknown_key"),
            ("/steps/1/id", "duplicate_id"),
            ("/steps/2/depends_on", "cycle"),
            ("/steps/3/depends_on/1", "unknown_step"),
        }
    assert not Workflow.objects.exists()
    assert not Execution.objects.exists()


def test_a_taken_id_is_a_409_and_a_reserved_one_a_400(api):
    created(api)
    assert api.post("/workflows", DEFINITION, format="json").json()["code"] == "id_taken"
    assert api.post("/workflows", {**DEFINITION, "name": "update"}, format="json").status_code == 400


def test_a_change_is_a_new_version_and_the_same_again_is_none(api):
    created(api)
    execution = started(api)["execution_id"]
    changed = {**DEFINITION, "steps": [noop("only")]}
    assert api.put("/workflows/daily-report", changed, format="json").json()["version"] == 2
    assert api.put("/workflows/daily-report", changed, format="json").json()["version"] == 2
    assert [v["number"] for v in api.get("/workflows/daily-report/versions").json()] == [2, 1]
    drive()
    assert api.get(f"/executions/{execution}").json()["version"] == 1
    assert [t["step_id"] for t in api.get(f"/executions/{execution}/tasks").json()["results"]] == ["a", "b"]


def test_a_workflow_with_running_executions_is_not_deleted(api, as_user):
    created(api)
    started(api)
    assert api.delete("/workflows/daily-report").json()["code"] == "executions_running"
    drive()
    assert api.delete("/workflows/daily-report").status_code == 204
    assert api.get("/workflows/daily-report").status_code == 404


def test_an_execution_is_started_seen_and_finished(api):
    created(api)
    answer = started(api)
    assert answer["workflow_id"] == "daily-report"
    assert answer["status"] == "pending"
    path = f"/executions/{answer['execution_id']}"
    assert api.get(path).json()["allowed_actions"] == ["cancel", "pause", "signal"]
    drive()
    found = api.get(path).json()
    assert (found["status"], found["percent_complete"], found["allowed_actions"]) == ("completed", 100, ["fork"])
    assert [e["seq"] for e in api.get(f"{path}/events?after=2&limit=2").json()] == [3, 4]
    (task, _) = api.get(f"{path}/tasks").json()["results"]
    assert api.get(f"/tasks/{task['id']}").json()["status"] == "completed"


@pytest.mark.django_db(transaction=True)
def test_an_idempotency_key_has_one_effect(api):
    created(api)
    first = api.post("/workflows/daily-report/execute", {}, format="json", headers={"Idempotency-Key": "k1"})
    again = api.post("/workflows/daily-report/execute", {}, format="json", headers={"Idempotency-Key": "k1"})
    assert first.json() == again.json()
    assert Execution.objects.count() == 1
    other = api.post(
        "/workflows/daily-report/execute", {"priority": 3}, format="json", headers={"Idempotency-Key": "k1"}
    )
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_key_reused"


def test_wrong_inputs_are_named(api):
    created(api, {**DEFINITION, "inputs": {"date": {"type": "string"}}})
    answer = api.post("/workflows/daily-report/execute", {"inputs": {"dat": "x"}}, format="json")
    assert answer.status_code == 400
    assert {e["pointer"] for e in answer.json()["errors"]} == {"/inputs/dat", "/inputs/date"}


@pytest.mark.parametrize(
    "body", [{"input": {}}, {"priority": "high"}, {"priority": 10**9}, {"inputs": []}, {"status": "completed"}]
)
def test_a10_unknown_and_wrong_fields_are_400_and_start_nothing(api, body):
    created(api)
    assert api.post("/workflows/daily-report/execute", body, format="json").status_code == 400
    assert not Execution.objects.exists()


def test_cancel_says_what_is_lawful(as_user):
    api = as_user("admin")
    created(api)
    execution = started(api)["execution_id"]
    answer = api.post(f"/executions/{execution}/cancel")
    assert answer.status_code == 202
    assert answer.json()["status"] == "cancelled"
    again = api.post(f"/executions/{execution}/cancel")
    assert again.status_code == 409
    assert (again.json()["code"], again.json()["allowed_actions"]) == ("invalid_transition", ["retry", "fork"])


def test_lists_are_filtered_and_paged(api):
    created(api)
    created(api, {**DEFINITION, "name": "Other", "tags": ["ops"]})
    ids = [started(api)["execution_id"] for _ in range(5)]
    assert [w["id"] for w in api.get("/workflows?tag=ops").json()["results"]] == ["other"]
    assert [w["id"] for w in api.get("/workflows?search=daily").json()["results"]] == ["daily-report"]
    page = api.get("/executions?limit=2").json()
    assert [e["id"] for e in page["results"]] == ids[:-3:-1]
    following = api.get(page["next"]).json()
    assert [e["id"] for e in following["results"]] == ids[-3:-5:-1]
    assert api.get("/executions?status=completed").json()["results"] == []
    assert len(api.get("/executions?workflow_id=daily-report&status=pending&status=completed").json()["results"]) == 5
    assert api.get("/executions?status=nonsense").status_code == 400


@pytest.mark.parametrize(
    "query", ["limit=1e20", "limit=-1", "cursor=nonsense", "created_after=yesterday", "status=%00"]
)
def test_a22_odd_queries_are_400(api, query):
    assert api.get(f"/executions?{query}").status_code == 400


def test_logs_come_in_order(api):
    from apps.workflows.services.ledger import LogLine

    created(api)
    execution = started(api)["execution_id"]
    task = claim()["a"]
    report = done(task)
    lines = tuple(LogLine(number=n, stream="stdout", text=f"line {n}\n") for n in (1, 2, 3))
    turn([type(report)(task_id=report.task_id, happening=report.happening, logs=lines)])
    found = api.get(f"/executions/{execution}/logs?step_id=a").json()
    assert [line["text"] for line in found] == ["line 1\n", "line 2\n", "line 3\n"]


# --- who may --------------------------------------------------------------------------------------------------------

PATHS = ["", "/versions", "/executions"]


@pytest.mark.parametrize("role", ["nobody", "agent", "guest", "system", "user", "admin"])
def test_roles_may_what_the_contract_says(as_user, api, role):
    created(api)
    execution = started(api)["execution_id"]
    caller = as_user(None if role == "nobody" else role)
    reads = role != "nobody"
    assert caller.get("/workflows/daily-report").status_code == (200 if reads else 404)
    assert caller.get(f"/executions/{execution}").status_code == (200 if reads else 404)
    executes = role in ("agent", "system", "user", "admin")
    expected = 202 if executes else 403 if reads else 404
    assert caller.post("/workflows/daily-report/execute", {}, format="json").status_code == expected
    creates = role in ("user", "admin")
    answer = caller.post("/workflows", {**DEFINITION, "name": "Mine"}, format="json")
    assert answer.status_code == (201 if creates else 403)
    deletes = 409 if role == "admin" else 403 if reads else 404
    assert caller.delete("/workflows/daily-report").status_code == deletes
    cancels = 202 if role == "admin" else 403 if reads else 404
    assert caller.post(f"/executions/{execution}/cancel").status_code == cancels


def test_an_owner_may_everything_with_what_is_his(api):
    created(api)
    execution = started(api)["execution_id"]
    api.user.roles.clear()
    caller = APIClient()
    caller.force_authenticate(type(api.user).objects.get(pk=api.user.pk))
    assert caller.get(f"/executions/{execution}").status_code == 200
    assert caller.post(f"/executions/{execution}/cancel").status_code == 202
    assert caller.delete("/workflows/daily-report").status_code == 204


def test_a_grant_opens_one_workflow_and_no_other(api, as_user):
    created(api)
    created(api, {**DEFINITION, "name": "Other"})
    execution = started(api)["execution_id"]
    hidden = started(api, "other")["execution_id"]
    stranger = as_user(None)
    assert stranger.get("/workflows").json()["results"] == []
    assign_perm("workflow:read", stranger.user, Workflow.objects.get(slug="daily-report"))
    assert [w["id"] for w in stranger.get("/workflows").json()["results"]] == ["daily-report"]
    assert [e["id"] for e in stranger.get("/executions").json()["results"]] == [execution]
    assert stranger.get(f"/executions/{execution}/tasks").status_code == 200
    assert stranger.post("/workflows/daily-report/execute", {}, format="json").status_code == 403
    for path in ("", "/tasks", "/events", "/logs"):
        assert stranger.get(f"/executions/{hidden}{path}").status_code == 404


def test_a9_a_foreign_id_answers_as_one_that_never_was(api, as_user):
    created(api)
    execution = started(api)["execution_id"]
    stranger = as_user(None)
    nothing = "00000000-0000-7000-8000-000000000000"

    def body(path):
        answer = stranger.get(path)
        return answer.status_code, {k: v for k, v in answer.json().items() if k != "request_id"}

    assert body(f"/executions/{execution}") == body(f"/executions/{nothing}")
    assert body("/workflows/daily-report") == body("/workflows/never-was")


def test_the_schema_of_definitions_is_published(api):
    schema = json.loads(api.get("/schema/workflow.json").content)
    assert schema["$schema"].endswith("2020-12/schema")
    assert "steps" in schema["properties"]
