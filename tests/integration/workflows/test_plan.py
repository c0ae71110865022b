"""Plans over REST: what would happen, what is missing, and that looking changes nothing."""

import json
import socket
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from guardian.shortcuts import assign_perm
from rest_framework.test import APIClient

from apps.workflows.models import Execution, Lane, Performer, Receiver, Task, Workflow, WorkflowVersion
from apps.workflows.selectors.environment import allowed_environment
from tests.integration.conftest import noop
from tests.integration.monitoring.rows import make_execution

pytestmark = pytest.mark.django_db

WEEK = [
    noop("fetch", queue="fast", timeout_seconds=30, retries=2),
    noop("weekday", "fetch", when="${inputs.day != 'sunday'}"),
    {"id": "tell", "depends_on": ["weekday"], "python": {"call": "builtin.echo", "with": {
        "day": "${inputs.day}", "at": "${steps.fetch.outputs.at}"}}},
    noop("sorry", "weekday", on="failure"),
    noop("done", "tell", "sorry", on="always"),
]  # fmt: skip
INPUTS = {"day": {"type": "string", "default": "monday"}}


@pytest.fixture
def as_user(make_user):
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


@pytest.fixture
def saved(owner):
    """A definition as a row, whatever this version runs of it: `saved("w", steps, inputs={…})`."""

    def save(slug, steps, **values):
        now = datetime.now(UTC)
        workflow, _ = Workflow.objects.get_or_create(
            slug=slug, defaults={"name": slug, "owner": owner, "created_at": now, "updated_at": now}
        )
        workflow.version_number += 1
        workflow.save()
        WorkflowVersion.objects.create(
            workflow=workflow,
            number=workflow.version_number,
            definition={"name": slug, "steps": steps, **values},
            checksum="0" * 64,
            created_at=now,
        )
        return workflow

    return save


@pytest.fixture
def worker(db):
    """A performer: `worker(labels={"gpu": 1}, queues=["fast"], ago=3)`."""

    def make(name="w1", kind="worker", labels=None, queues=None, ago=0.0, draining=False):
        seen = datetime.now(UTC) - timedelta(seconds=ago)
        return Performer.objects.create(
            name=name, kind=kind, slots=4, labels=labels or {}, queues=queues, draining=draining,
            started_at=seen, seen_at=seen,
        )  # fmt: skip

    return make


def plan(client, workflow="w", **inputs):
    if inputs:
        answer = client.post(f"/workflows/{workflow}/plan", {"inputs": inputs}, format="json")
    else:
        answer = client.get(f"/workflows/{workflow}/plan")
    assert answer.status_code == 200, answer.content
    return answer.json()


def steps_of(found):
    return {step["id"]: step for step in found["steps"]}


def missing(found):
    return [(each["step_id"], each["what"]) for each in found["missing"]]


# --- what is told -----------------------------------------------------------------------------------------------------


def test_a_plan_has_the_waves_the_steps_and_what_rests_on_inputs(api, saved, worker):
    worker()
    saved("w", WEEK, inputs=INPUTS)
    found = plan(api)
    assert (found["workflow_id"], found["version"], found["inputs"]) == ("w", 1, {"day": "monday"})
    assert found["waves"] == [["fetch"], ["weekday"], ["tell", "sorry"], ["done"]]
    assert found["critical_path"] == {"steps": ["fetch", "weekday", "tell", "done"], "expected_seconds": None}
    assert (found["missing"], found["missing_total"], found["executions_basis"]) == ([], 0, 0)
    steps = steps_of(found)
    assert steps["fetch"] == {
        "id": "fetch", "kind": "python", "depends_on": [], "on": "success", "when": True, "items": None,
        "queue": "fast", "requires": [], "timeout_seconds": 30.0, "retries": 2, "expected_seconds": None,
        "config": {"call": "builtin.noop", "with": {}},
    }  # fmt: skip
    assert steps["tell"]["config"]["with"] == {"day": "monday", "at": "${steps.fetch.outputs.at}"}
    assert steps["weekday"]["when"] is True


def test_given_inputs_decide_conditions_and_what_is_skipped_is_in_no_wave(api, saved, worker):
    worker()
    saved("w", WEEK, inputs=INPUTS)
    found = plan(api, day="sunday")
    assert steps_of(found)["weekday"]["when"] is False
    assert found["waves"] == [["fetch"], ["done"]]
    assert found["critical_path"]["steps"] == ["fetch", "done"]


def test_items_are_counted_over_inputs_and_unknown_over_outputs(api, saved, worker):
    worker()
    steps = [
        noop("a", for_each="${inputs.names}"),
        noop("b", "a", for_each="${steps.a.outputs}"),
        noop("c", for_each=[1, 2]),
        noop("d", when="${steps.a.outputs.x > 1}", depends_on=["a"]),
    ]
    saved("w", steps, inputs={"names": {"type": "array"}})
    found = plan(api, names=["x", "y", "z"])
    assert {name: step["items"] for name, step in steps_of(found).items()} == {
        "a": 3,
        "b": "unknown",
        "c": 2,
        "d": None,
    }
    assert steps_of(found)["d"]["when"] == "unknown"
    assert missing(found) == []


def test_a_required_input_is_told_as_missing_and_a_wrong_one_is_a_400(api, saved, worker):
    worker()
    steps = [noop("a", when="${inputs.n > 1}"), noop("b", when="${inputs.m > 1}")]
    saved("w", steps, inputs={"n": {"type": "integer"}, "m": {"type": "integer", "default": 2}})
    found = plan(api)
    assert found["inputs"] == {"m": 2}
    assert [step["when"] for step in found["steps"]] == ["unknown", True]
    assert missing(found) == [(None, "input")]
    assert "`n` is required" in found["missing"][0]["message"]
    answer = api.post("/workflows/w/plan", {"inputs": {"m": "x", "k": 1}}, format="json")
    assert answer.status_code == 400
    assert {error["pointer"] for error in answer.json()["errors"]} == {"/inputs/m", "/inputs/k"}


def test_an_expression_that_would_fail_is_told(api, saved, worker):
    worker()
    saved("w", [noop("a", when="${inputs.day > 1}"), noop("b", for_each="${inputs.day}")], inputs=INPUTS)
    found = plan(api)
    assert [(step["when"], step["items"]) for step in found["steps"]] == [("unknown", None), (True, "unknown")]
    assert missing(found) == [("a", "input"), ("b", "input")]


def test_inputs_too_large_to_fill_in_everywhere_are_told(api, saved, worker):
    worker()
    step = {"python": {"call": "builtin.echo", "with": {"big": "${inputs.big}"}}}
    saved("w", [{"id": f"s{n}", **step} for n in range(20)], inputs={"big": {"type": "array"}})
    found = plan(api, big=["x" * 1000] * 900)
    filled = [isinstance(each["config"]["with"]["big"], list) for each in found["steps"]]
    assert filled == [True] * 4 + [False] * 16
    assert missing(found) == [(None, "input")]


# --- how long ---------------------------------------------------------------------------------------------------------


def test_expected_seconds_are_medians_of_the_last_executions(api, saved, worker):
    worker()
    workflow = saved("w", [noop("a"), noop("b", "a"), noop("c", "a")])
    for seconds in (1.0, 2.0, 9.0):
        tasks = [
            {"step_id": "a", "status": "completed", "seconds": seconds},
            {"step_id": "b", "status": "completed", "seconds": 0.25},
            {"step_id": "c", "status": "failed", "seconds": 100.0},
        ]
        make_execution(workflow, "failed", tasks=tasks)
    make_execution(workflow, "in_progress")
    found = plan(api)
    assert {name: step["expected_seconds"] for name, step in steps_of(found).items()} == {
        "a": 2.0,
        "b": 0.25,
        "c": None,
    }
    assert found["executions_basis"] == 3
    assert found["critical_path"]["expected_seconds"] is None
    Task.objects.filter(step_id="c").update(status="completed")
    found = plan(api)
    assert found["critical_path"] == {"steps": ["a", "c"], "expected_seconds": 102.0}


def test_only_the_newest_twenty_executions_count(api, saved):
    workflow = saved("w", [noop("a")])
    for seconds in [100.0] * 5 + [1.0] * 20:
        make_execution(workflow, tasks=[{"step_id": "a", "status": "completed", "seconds": seconds}])
    found = plan(api)
    assert (found["steps"][0]["expected_seconds"], found["executions_basis"]) == (1.0, 20)


# --- what is missing --------------------------------------------------------------------------------------------------


def test_without_a_live_worker_every_step_misses_a_performer(api, saved, worker):
    worker("silent", ago=3600)
    worker("leaving", draining=True)
    worker("agent", kind="agent")
    saved("w", [noop("a"), {"id": "b", "wait": {"seconds": 1}}])
    assert missing(plan(api)) == [("a", "performer")]


def test_queues_and_labels_are_compared_with_those_of_live_workers(api, saved, worker):
    worker("w1", labels={"gpu": 2, "region": "eu"}, queues=["fast"])
    worker("w2", labels={"gpu": 8}, queues=["fast", "slow"])
    steps = [
        noop("good", queue="fast", requires=["gpu>=1", "region in [eu, us]"]),
        noop("other", queue="none"),
        noop("more", queue="fast", requires=["gpu >= 9"]),
        noop("both", queue="fast", requires=["gpu >= 4", "region == eu"]),
        {"id": "reviewed", "agent": {"requires": ["kind == reviewer"]}},
    ]
    saved("w", steps)
    found = plan(api)
    assert steps_of(found)["good"]["requires"] == ["gpu >= 1", "region in [eu, us]"]
    assert missing(found) == [
        ("other", "queue"), ("more", "performer"), ("both", "performer"), ("reviewed", "performer"),
    ]  # fmt: skip
    messages = [each["message"] for each in found["missing"]]
    assert "`manage.py worker --queues none`" in messages[0]
    assert "meets `gpu >= 9`:" in messages[1]
    assert "meets `gpu >= 4`, `region == eu` together:" in messages[2]
    worker("a1", kind="agent", labels={"kind": "reviewer"})
    assert ("reviewed", "performer") not in missing(plan(api))


def test_a_paused_queue_is_told(api, saved, worker):
    worker()
    Lane.objects.create(key="fast", queue="fast", paused=True)
    saved("w", [noop("a", queue="fast"), noop("b")])
    assert missing(plan(api)) == [("a", "queue")]


def test_callables_and_executors_that_are_not_here_are_told(api, saved, worker, settings):
    worker()
    steps = [
        {"id": "a", "python": "builtin.ehco"},
        {"id": "b", "command": ["true"]},
        {"id": "c", "image": "python:3.11-slim"},
        {"id": "d", "llm": {"model": "m", "messages": [{"role": "user", "content": "x"}]}},
    ]
    saved("w", steps)
    settings.PROCESS_STEPS = "off"
    found = plan(api)
    assert missing(found) == [("a", "callable"), ("b", "executor"), ("c", "executor"), ("d", "executor")]
    assert "did you mean `builtin.echo`?" in found["missing"][0]["message"]
    assert "PROCESS_STEPS=trusted" in found["missing"][1]["message"]
    settings.PROCESS_STEPS = "trusted"
    assert ("b", "executor") not in missing(plan(api))
    assert "DOCKER_HOST" in found["missing"][2]["message"]
    settings.CONTAINER_RUNTIME = "docker"
    assert ("c", "executor") not in missing(plan(api))


def test_variables_are_told_where_they_are_not_offered_and_never_shown(api, saved, worker, settings, monkeypatch):
    worker()
    settings.ENV = settings.ENV.model_copy(update={"WORKFLOW_ENV_ALLOWED": ("OFFERED", "UNSET")})
    monkeypatch.setenv("OFFERED", "sesame")
    monkeypatch.setenv("FORBIDDEN", "sesame")
    monkeypatch.delenv("UNSET", raising=False)
    allowed_environment.cache_clear()
    names = ["OFFERED", "UNSET", "FORBIDDEN", "FORBIDDEN:-x"]
    step = {"id": "a", "python": {"call": "builtin.echo", "with": {"all": [f"${{{name}}}" for name in names]}}}
    saved("w", [step], outputs=[{"name": "o", "value": "${FORBIDDEN}"}])
    try:
        found = plan(api)
    finally:
        allowed_environment.cache_clear()
    assert missing(found) == [(None, "environment"), ("a", "environment"), ("a", "environment")]
    messages = [each["message"] for each in found["missing"]]
    assert "FORBIDDEN is not offered: name it in WORKFLOW_ENV_ALLOWED" in messages[0]
    assert "UNSET is not set" in messages[1]
    assert found["steps"][0]["config"]["with"]["all"] == [f"${{{name}}}" for name in names]
    assert "sesame" not in json.dumps(found)


def test_receivers_that_nobody_made_are_told(api, saved, worker):
    worker()
    now = datetime.now(UTC)
    Receiver.objects.create(name="ops", kind="webhook", target="x", created_at=now, updated_at=now)
    saved("w", [noop("a")], notify=[{"on": ["failed"], "webhook": "ops"}, {"on": ["failed"], "webhook": "nobody"}])
    found = plan(api)
    assert missing(found) == [(None, "receiver")]
    assert "`nobody`" in found["missing"][0]["message"]


def child(identity, workflow, **values):
    return {"id": identity, "workflow": {"id": workflow, **values}}


def test_sub_workflows_that_are_not_there_are_told(api, saved, worker):
    worker()
    saved("leaf", [noop("a")])
    saved("tracked", [noop("a")])
    Workflow.objects.filter(slug="tracked").update(kind="tracker")
    steps = [child("good", "leaf"), child("bad", "laef"), child("odd", "tracked"), child("open", "${inputs.which}")]
    saved("w", steps, inputs={"which": {"type": "string", "default": "nothing"}})
    found = plan(api)
    assert missing(found) == [("bad", "workflow"), ("odd", "workflow"), ("open", "workflow")]
    assert "did you mean `leaf`?" in found["missing"][0]["message"]
    assert missing(plan(api, which="leaf")) == [("bad", "workflow"), ("odd", "workflow")]


def test_a_chain_of_sub_workflows_that_comes_back_is_told(api, saved, worker):
    worker()
    saved("leaf", [noop("a")])
    saved("a", [child("x", "b"), child("fine", "leaf")])
    saved("b", [child("x", "c")])
    saved("c", [child("x", "b")])
    saved("me", [child("x", "me")])
    found = plan(api, "a")
    assert missing(found) == [("x", "workflow")]
    assert "b → c → b" in found["missing"][0]["message"]
    assert "me → me" in plan(api, "me")["missing"][0]["message"]


def test_a_foreign_sub_workflow_is_as_good_as_none(as_user, saved, worker, owner):
    worker()
    saved("foreign", [noop("a")])
    mine = as_user()
    workflow = saved("w", [child("x", "foreign"), child("y", "nowhere")])
    assign_perm("workflows.workflow:read", mine.user, workflow)
    messages = [each["message"] for each in plan(mine)["missing"]]
    assert messages[0].replace("foreign", "nowhere") == messages[1]


# --- who may, and what it may not do ----------------------------------------------------------------------------------


def test_reading_is_what_it_asks_for(as_user, saved):
    saved("w", [noop("a")])
    for role, status in (("guest", 200), ("user", 200), (None, 404)):
        client = as_user(role)
        assert client.get("/workflows/w/plan").status_code == status
        assert client.post("/workflows/w/plan", {}, format="json").status_code == status
        assert client.get("/workflows/w/versions/diff?from=1&to=1").status_code == status
    assert as_user("guest").get("/workflows/nothing/plan").status_code == 404


def test_a_plan_writes_nothing_executes_nothing_and_calls_nobody(api, saved, worker, monkeypatch):
    worker()
    steps = [
        {"id": "a", "http": {"url": "http://127.0.0.1:9/${inputs.day}"}},
        {"id": "b", "command": ["touch", "/tmp/${inputs.day}"], "depends_on": ["a"]},
    ]
    saved("w", steps, inputs=INPUTS)

    def refuse(*_):
        raise AssertionError("a plan connects to nothing")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("subprocess.Popen.__init__", refuse)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        found = plan(api, day="x")
    assert [step["config"].get("url", step["config"].get("command")) for step in found["steps"]] == [
        "http://127.0.0.1:9/x", ["touch", "/tmp/x"],
    ]  # fmt: skip
    assert not [query["sql"] for query in queries if not query["sql"].startswith(("SELECT", "SAVEPOINT", "RELEASE"))]
    assert not Execution.objects.exists()


def test_a_tracker_has_no_plan(api, saved):
    saved("w", [])
    Workflow.objects.update(kind="tracker")
    assert api.get("/workflows/w/plan").status_code == 409


@pytest.mark.parametrize(
    "body",
    [
        "", "[]", "1", '"x"', "null", "{", '{"inputs": []}', '{"inputs": null}', '{"inputs": {"day": null}}',
        '{"input": {}}', '{"inputs": {"day": 1}}', '{"inputs": {"day": "\\u0000"}}', '{"inputs": {"day": "\\ud800"}}',
        '{"inputs": {"day": 1e999}}', '{"inputs": {"day": 99999999999999999999}}', '{"inputs": {"\\u0000": 1}}',
        '{"inputs": {"any": %s}}' % ("[" * 100 + "]" * 100), '{"inputs": {"any": %s}}' % ("[" * 100_000),
    ],
)  # fmt: skip
def test_hostile_inputs_are_a_400(api, saved, body):
    saved("w", WEEK, inputs={**INPUTS, "any": {"default": 1}})
    answer = api.post("/workflows/w/plan", body, content_type="application/json")
    if body == "":
        assert answer.status_code in (200, 400)
        return
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"


def test_thousands_of_steps_are_planned_in_a_moment(api, saved, worker):
    steps = [
        noop(
            f"s{n}", *([f"s{n - 50}"] if n >= 50 else []), when="${inputs.day != 'x'}", requires=[f"gpu >= {n % 3}"],
            python={"call": "builtin.echo", "with": {"n": f"{n} on ${{inputs.day}} in ${{PLACE:-x}}"}},
        )
        for n in range(4_000)
    ]  # fmt: skip
    workflow = saved("w", steps, inputs=INPUTS)
    for _ in range(3):
        execution = make_execution(workflow)
        tasks = Task.objects.bulk_create(
            Task(id=execution.pk.__class__(int=execution.pk.int | n + 1), execution=execution, step_id=f"s{n}",
                 status="completed", started_at=execution.started_at, finished_at=execution.finished_at)
            for n in range(4_000)
        )  # fmt: skip
        assert len(tasks) == 4_000
    plan(api)  # compiles the graph
    worker("w1", labels={"gpu": 1})  # only now: a worker is heard of no longer than for a lease
    began = time.monotonic()
    found = plan(api, day="monday")
    assert len(found["waves"]) == 80
    assert found["critical_path"]["expected_seconds"] == 80.0
    assert (len(found["missing"]), found["missing_total"]) == (1000, 1333)
    assert time.monotonic() - began < 60  # a bound against hanging


# --- what was changed -------------------------------------------------------------------------------------------------


def diff(client, query):
    return client.get(f"/workflows/w/versions/diff?{query}")


def test_the_difference_between_two_versions(api, saved):
    saved("w", [noop("a"), noop("b", timeout_seconds=3)], description="old")
    saved("w", [noop("b", timeout_seconds=5), noop("c")], description="old")
    answer = diff(api, "from=1&to=2")
    assert answer.status_code == 200
    assert answer.json() == {
        "from": 1,
        "to": 2,
        "changes": [
            {"pointer": "/steps/0", "op": "remove", "step_id": "a", "before": noop("a"), "after": None},
            {"pointer": "/steps/0/timeout_seconds", "op": "replace", "step_id": "b", "before": 3, "after": 5},
            {"pointer": "/steps/1", "op": "add", "step_id": "c", "before": None, "after": noop("c")},
        ],
        "changes_total": 3,
    }
    assert diff(api, "from=2&to=2").json()["changes"] == []
    assert [each["op"] for each in diff(api, "from=2&to=1").json()["changes"]] == ["remove", "add", "replace"]


def test_a_thousand_changes_are_told_and_the_rest_is_counted(api, saved):
    saved("w", [noop(f"a{n}") for n in range(900)])
    saved("w", [noop(f"b{n}") for n in range(900)])
    found = diff(api, "from=1&to=2").json()
    assert (len(found["changes"]), found["changes_total"]) == (1000, 1800)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400), ("from=1", 400), ("to=1", 400), ("from=x&to=1", 400), ("from=-1&to=1", 400), ("from=0&to=1", 400),
        ("from=%00&to=1", 400), ("from=1e3&to=1", 400), (f"from={'9' * 30}&to=1", 400),
        ("from=1&to=2", 404), (f"from=1&to={'9' * 18}", 404), (f"from=1&to={2**31}", 404),
    ],
)  # fmt: skip
def test_odd_versions_are_4xx(api, saved, query, status):
    saved("w", [noop("a")])
    answer = diff(api, query)
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
