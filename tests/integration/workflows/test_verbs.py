"""Pause, resume, signal, retry, fork, priority over REST: what each does, what it refuses, and who may."""

import pytest
from rest_framework.test import APIClient

from apps.workflows.models import Event, Execution, Task
from apps.workflows.services import executions
from tests.integration.conftest import noop
from tests.integration.workflows.driver import accepted, check_rows, claim, done, drive, failed, journal, statuses

pytestmark = pytest.mark.django_db

STEPS = [noop("a"), noop("b", "a")]
SIGNALLED = [{"id": "w", "wait": {"signal": "go"}}]


@pytest.fixture
def api(owner, client_of):
    return client_of(owner)


def post(client, execution, verb, body=None, **headers):
    return client.post(f"/executions/{execution.pk}/{verb}", body or {}, format="json", headers=headers)


def test_a_paused_execution_starts_nothing_until_it_is_resumed(api, run):
    execution = run(STEPS)
    answer = post(api, execution, "pause")
    assert answer.status_code == 202
    assert (answer.json()["status"], answer.json()["allowed_actions"]) == ("paused", ["cancel", "resume", "signal"])
    assert claim() == {}
    assert post(api, execution, "pause").status_code == 202
    assert post(api, execution, "resume").json()["status"] == "pending"
    drive()
    assert statuses(execution) == {"a": "completed", "b": "completed"}
    check_rows(execution)


def test_what_is_not_lawful_is_a_409_that_says_what_is(api, run):
    execution = run(STEPS)
    for verb, body in [("resume", {}), ("retry", {}), ("fork", {"step_id": "a"})]:
        answer = post(api, execution, verb, body)
        assert (answer.status_code, answer.json()["code"]) == (409, "invalid_transition"), verb
        assert answer.json()["allowed_actions"] == ["cancel", "pause", "signal"]
    drive()
    for verb in ("pause", "resume", "signal/go", "retry"):
        answer = post(api, execution, verb)
        assert (answer.status_code, answer.json()["code"]) == (409, "invalid_transition"), verb
        assert answer.json()["allowed_actions"] == ["fork"]


def test_a_signal_lets_a_waiting_step_go_on_with_its_payload(api, run):
    execution = run([*SIGNALLED, noop("after", "w")])
    assert post(api, execution, "signal/other", {}).status_code == 202
    assert statuses(execution)["w"] == "waiting"
    assert post(api, execution, "signal/go", {"n": 1}).status_code == 202
    assert Task.objects.get(execution=execution, step_id="w").outputs == {"n": 1}
    drive()
    assert Execution.objects.get(pk=execution.pk).status == "completed"


@pytest.mark.parametrize("name", ["go.on", "%20", "a" * 101, "%ED%A0%80", "é", "go%0A"])
def test_a22_a_signals_name_is_an_identifier(api, run, name):
    answer = api.post(f"/executions/{run(SIGNALLED).pk}/signal/{name}", {}, format="json")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/name"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[]", 400), (b'"x"', 400), (b"nonsense", 400), (b'{"a": "\\u0000"}', 400), (b'{"a": "\\ud800"}', 400),
        (b'{"a": 1e999}', 400), (b'{"a": 123456789012345678901234567890}', 400),
        (b"[" * 70 + b"]" * 70, 400), (b'{"a": ' * 70 + b"1" + b"}" * 70, 400),
        (b'{"a": "' + b"x" * 70_000 + b'"}', 413), (b'{"a": "' + b"x" * 60_000 + b'"}', 202), (b"", 202),
    ],
)  # fmt: skip
def test_a22_a_signals_payload_is_a_bounded_object(api, run, body, status):
    path = f"/executions/{run(SIGNALLED).pk}/signal/go"
    assert api.post(path, body, content_type="application/json").status_code == status


def test_a_retry_keeps_what_went_well(api, run):
    execution = run(STEPS)
    accepted(done(claim()["a"]))
    accepted(failed(claim()["b"], retryable=False))
    answer = post(api, execution, "retry")
    assert answer.status_code == 202
    again = Execution.objects.get(pk=answer.json()["execution_id"])
    assert answer.json() == {
        "execution_id": str(again.pk), "workflow_id": execution.workflow.slug, "status": "pending",
    }  # fmt: skip
    assert statuses(again) == {"a": "completed", "b": "pending"}
    shown = api.get(f"/executions/{again.pk}").json()
    assert (shown["trigger"], shown["origin_id"]) == ("retry", str(execution.pk))
    found = api.get(f"/executions?origin_id={execution.pk}").json()["results"]
    assert [row["id"] for row in found] == [str(again.pk)]
    assert [row["id"] for row in api.get("/executions?trigger=retry").json()["results"]] == [str(again.pk)]


@pytest.mark.django_db(transaction=True)
def test_a_retry_with_a_key_is_made_once(api, run):
    execution = run(STEPS)
    executions.cancel(execution, by=None)
    first = post(api, execution, "retry", **{"Idempotency-Key": "k"}).json()
    assert post(api, execution, "retry", **{"Idempotency-Key": "k"}).json() == first
    assert Execution.objects.count() == 2


def test_a_fork_does_one_item_again(api, run):
    execution = run([noop("list"), noop("load", "list", for_each=[1, 2, 3])])
    drive()
    answer = post(api, execution, "fork", {"step_id": "load[1]"})
    assert answer.status_code == 202
    forked = Execution.objects.get(pk=answer.json()["execution_id"])
    assert [name for name, status in statuses(forked).items() if status == "pending"] == ["load[1]"]
    assert forked.trigger == "fork"


@pytest.mark.parametrize("step", ["nothing", "a[0]", "a[", "[0]", "é" * 40, "a\n", " a[99999999999999999999]"])
def test_a_fork_from_an_unknown_step_is_told(api, run, step):
    execution = run(STEPS)
    drive()
    answer = post(api, execution, "fork", {"step_id": step})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/step_id")


@pytest.mark.parametrize("body", [{}, {"step_id": ""}, {"step_id": "x" * 111}, {"step_id": ["a"]}, {"step": "a"}, []])
def test_a22_a_forks_body_is_strict(api, run, body):
    execution = run(STEPS)
    drive()
    assert api.post(f"/executions/{execution.pk}/fork", body, format="json").status_code == 400


def test_a_tracker_is_only_stopped(api, make_user, client_of):
    from apps.workflows.engine.states import Status
    from apps.workflows.services import trackers

    report = trackers.TrackerUpdate(workflow_id="outside", status=Status.IN_PROGRESS, percent=10, step_id="odd")
    (execution,) = trackers.update([report], by=make_user("agent"))
    shown = api.get(f"/executions/{execution.pk}").json()
    assert shown["allowed_actions"] == ["cancel"]
    for verb in ("pause", "resume", "signal/go", "retry", "fork"):
        answer = post(api, execution, verb, {"step_id": "odd"} if verb == "fork" else {})
        assert (answer.status_code, answer.json()["code"]) == (409, "tracker"), verb
    (task,) = api.get(f"/executions/{execution.pk}/tasks?step_id=odd").json()["results"]
    assert (task["item"], task["items"]) == (None, None)
    assert api.get(f"/tasks/{task['id']}/why").json()["reasons"][0]["code"] == "reported"
    assert api.get(f"/progress/{execution.pk}").json()["total_steps"] == 1


# --- what an execution shows ------------------------------------------------------------------------------------------


def test_parent_and_children_are_shown_to_who_may_read_them(api, run, make_workflow, make_user, client_of):
    make_workflow([noop("x")], name="Child")
    execution = run([{"id": "sub", "workflow": {"id": "child"}}], name="Parent")
    (child,) = api.get(f"/executions/{execution.pk}").json()["children"]
    assert (child["workflow_id"], child["step_id"], child["status"]) == ("child", "sub", "pending")
    shown = api.get(f"/executions/{child['execution_id']}").json()
    assert (shown["parent_execution_id"], shown["parent_step_id"]) == (str(execution.pk), "sub")
    assert shown["trigger"] == "workflow"
    found = api.get(f"/executions?parent_id={execution.pk}").json()["results"]
    assert [row["id"] for row in found] == [child["execution_id"]]

    from guardian.shortcuts import assign_perm

    of_child, of_parent = client_of(make_user()), client_of(make_user())
    row = Execution.objects.get(pk=child["execution_id"])
    assign_perm("workflow:read", of_child.user, row.workflow)
    assign_perm("workflow:read", of_parent.user, execution.workflow)
    hidden = of_child.get(f"/executions/{row.pk}").json()
    assert (hidden["parent_execution_id"], hidden["parent_step_id"]) == (None, None)
    assert of_child.get(f"/executions?parent_id={execution.pk}").json()["results"] == []
    assert of_parent.get(f"/executions/{execution.pk}").json()["children"] == []


def test_a09_the_journal_names_no_execution_that_its_reader_may_not_read(api, run, make_workflow):
    """One text goes to all who watch, so it names none: parents and children are told where it is asked who may."""
    make_workflow([noop("x")], name="Child")
    parent = run([{"id": "sub", "workflow": {"id": "child"}}], name="Parent")
    (child,) = api.get(f"/executions/{parent.pk}").json()["children"]
    kept = {pk: [row.data for row in Event.objects.filter(execution=pk)] for pk in (parent.pk, child["execution_id"])}
    assert child["execution_id"] in str(kept[parent.pk]), "the control: the journal itself keeps it"
    assert str(parent.pk) in str(kept[child["execution_id"]])
    for one, other in ((parent.pk, child["execution_id"]), (child["execution_id"], parent.pk)):
        for url in (f"/executions/{one}/events", f"/progress/{one}/history"):
            answer = api.get(url)
            assert answer.status_code == 200, url
            text = answer.content.decode()
            assert str(other) not in text, url
            assert "parent_step_id" not in text and "child_workflow_id" not in text, url


def test_a_held_execution_says_so_and_why(api, make_workflow, owner):
    limit = {"key": "k", "limit": 1, "on_conflict": "queue"}
    workflow = make_workflow(STEPS, concurrency=limit)
    first, second = (executions.start(workflow, by=owner) for _ in range(2))
    assert [api.get(f"/executions/{row.pk}").json()["held"] for row in (first, second)] == [False, True]
    assert api.get(f"/executions/{second.pk}").json()["concurrency_key"] == "k"


@pytest.mark.parametrize("query", ["origin_id=x", "parent_id=%00", "schedule_id=1", "trigger=whim", "trigger=%00"])
def test_a22_odd_filters_are_400(api, query):
    assert api.get(f"/executions?{query}").status_code == 400


def test_items_are_listed_by_their_step(api, run):
    execution = run([noop("Load"), noop("load", for_each=[1, 2, 3]), noop("loadx", for_each=[1])])

    def names(query):
        return [row["step_id"] for row in api.get(f"/executions/{execution.pk}/tasks?{query}").json()["results"]]

    assert names("step_id=load") == ["load", "load[0]", "load[1]", "load[2]"]
    assert names("step_id=load&limit=2") == ["load", "load[0]"]
    assert names("step_id=load[1]") == ["load[1]"]
    assert names("step_id=Load") == ["Load"]
    assert api.get(f"/executions/{execution.pk}/tasks?step_id=%00").status_code < 500
    rows = api.get(f"/executions/{execution.pk}/tasks?step_id=load").json()["results"]
    assert [(row["item"], row["items"]) for row in rows] == [(None, 3), (0, None), (1, None), (2, None)]
    assert rows[0]["waiting_for"] == "items"


def test_progress_tells_of_steps_and_counts_their_items(api, run):
    execution = run([noop("load", for_each=list(range(5))), noop("end", "load")])
    found = claim(slots=3)
    accepted(done(found["load[0]"]), failed(found["load[1]"], retryable=False))
    state = api.get(f"/progress/{execution.pk}").json()
    assert list(state["steps"]) == ["load", "end"]
    assert state["steps"]["load"]["items"] == {"total": 5, "completed": 1, "failed": 1, "in_progress": 1}
    assert "items" not in state["steps"]["end"]
    assert (state["total_steps"], state["pending_steps"]) == (2, 2)
    assert api.get(f"/progress/{execution.pk}/estimate").json()["steps_total"] == 2
    executions.cancel(execution, by=None)
    accepted(done(found["load[2]"]))
    counted = api.get(f"/progress/{execution.pk}").json()["steps"]["load"]["items"]
    assert counted["failed"] == 1


# --- priority ---------------------------------------------------------------------------------------------------------


def test_priority_moves_an_execution_forward_in_its_line(client_of, make_user, make_workflow, owner):
    admin = client_of(make_user("admin"))
    workflow = make_workflow(STEPS)
    first, second = (executions.start(workflow, by=owner) for _ in range(2))
    answer = admin.patch(f"/executions/{second.pk}", {"priority": 5}, format="json")
    assert (answer.status_code, answer.json()["priority"]) == (200, 5)
    task = claim(slots=1)["a"]
    assert task.execution_id == second.pk
    assert journal(second)[:2] == ["execution.created", "execution.priority_changed"]
    check_rows(second)
    seq = Execution.objects.get(pk=second.pk).seq
    assert admin.patch(f"/executions/{second.pk}", {"priority": 5}, format="json").status_code == 200
    assert Execution.objects.get(pk=second.pk).seq == seq
    of_first = Task.objects.filter(execution=first).first()
    assert admin.patch(f"/tasks/{of_first.pk}", {"priority": -3}, format="json").status_code == 200
    assert Execution.objects.get(pk=first.pk).priority == -3
    drive()
    accepted(done(task))
    drive()
    assert (
        admin.patch(f"/executions/{second.pk}", {"priority": 1}, format="json").json()["code"] == "invalid_transition"
    )


@pytest.mark.parametrize(
    "body", [{}, {"priority": 1001}, {"priority": 10**30}, {"priority": "x"}, {"priority": None}, {"status": "failed"}]
)
def test_a22_a_priority_is_a_small_number(owner, client_of, run, body):
    execution = run(STEPS)
    task = Task.objects.filter(execution=execution).first()
    for path in (f"/executions/{execution.pk}", f"/tasks/{task.pk}"):
        assert client_of(owner).patch(path, body, format="json").status_code == 400


# --- who may ----------------------------------------------------------------------------------------------------------

EXECUTES = {"admin", "user", "agent", "system", "owner", "granted"}
UPDATES = {"admin", "agent", "owner"}
VERBS = {"pause": EXECUTES, "resume": EXECUTES, "signal/go": EXECUTES, "retry": EXECUTES, "fork": EXECUTES}


def test_a8_who_may_what(callers, run):
    execution = run(STEPS)
    task = Task.objects.filter(execution=execution).first()
    for name, client in callers(execution).items():
        asked = {verb: (post(client, execution, verb, {"step_id": "a"}), may) for verb, may in VERBS.items()}
        body = {"priority": 1}
        asked["patch"] = client.patch(f"/executions/{execution.pk}", body, format="json"), UPDATES
        asked["patch task"] = client.patch(f"/tasks/{task.pk}", body, format="json"), UPDATES
        for verb, (answer, may) in asked.items():
            told = answer.status_code
            expected = (200, 202, 400, 409) if name in may else (404,) if name == "stranger" else (403,)
            assert told in expected, (name, verb, told)


def test_a7_nobody_may_anything(run):
    execution = run(STEPS)
    for verb in VERBS:
        assert post(APIClient(), execution, verb).status_code == 401
    assert APIClient().patch(f"/executions/{execution.pk}", {"priority": 1}, format="json").status_code == 401
