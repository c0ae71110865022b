"""Approvals: who may say yes or no, what the form must be, and that the first word counts."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from apps.core.errors import Conflict
from apps.workflows.models import Execution, Task
from apps.workflows.services import approvals, executions
from tests.integration.conftest import noop
from tests.integration.workflows.driver import check_rows, drive, journal, statuses

pytestmark = pytest.mark.django_db

FORM = {
    "type": "object",
    "properties": {"amount": {"type": "integer", "maximum": 100}, "why": {"type": "string", "pattern": "^[a-z]+$"}},
    "required": ["amount"],
    "additionalProperties": False,
}


@pytest.fixture
def waiting(run):
    """The task of an approval that waits, with another step behind it."""

    def start(**approval):
        execution = run([{"id": "ok", "approval": approval}, noop("after", "ok")])
        return Task.objects.select_related("execution__workflow").get(execution=execution, step_id="ok")

    return start


def say(client, task, verb="approve", **body):
    return client.post(f"/tasks/{task.pk}/{verb}", body, format="json")


def test_a_yes_completes_the_step_with_form_and_reason(waiting, make_user, client_of):
    task, boss = waiting(form=FORM), client_of(make_user("user"))
    (listed,) = boss.get("/tasks?waiting_for=approval").json()["results"]
    assert listed["id"] == str(task.pk)
    assert listed["approval"] == {"who": [], "allow_requester": False, "form": FORM}
    answer = say(boss, task, form={"amount": 7}, reason="fine")
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")
    by = boss.user.get_username()
    assert answer.json()["outputs"] == {"approved": True, "by": by, "reason": "fine", "form": {"amount": 7}}
    assert (answer.json()["approval"], answer.json()["waiting_for"]) == (None, "")
    drive()
    assert statuses(task.execution)["after"] == "completed"
    check_rows(task.execution)


def test_a_no_fails_the_step_and_says_why(waiting, make_user, client_of):
    task, boss = waiting(form=FORM), client_of(make_user("user"))
    answer = say(boss, task, "reject", reason="too much")
    assert answer.json()["error"]["message"] == f"rejected by {boss.user.get_username()}: too much"
    assert Execution.objects.get(pk=task.execution_id).status == "failed"


def test_the_first_word_counts(waiting, make_user, client_of):
    task = waiting()
    one, other = client_of(make_user("user")), client_of(make_user("user"))
    assert say(one, task).status_code == 200
    for verb in ("approve", "reject"):
        answer = say(other, task, verb)
        assert (answer.status_code, answer.json()["code"]) == (409, "not_waiting")


def test_a_step_that_asks_nobody_is_a_409(run, make_user, client_of):
    execution = run([noop("a")])
    task = Task.objects.get(execution=execution)
    assert say(client_of(make_user("user")), task).json()["code"] == "not_waiting"


def test_who_requested_it_may_not_decide_unless_that_is_allowed(waiting, owner, client_of):
    task = waiting()
    for verb in ("approve", "reject"):
        answer = say(client_of(owner), task, verb)
        assert (answer.status_code, answer.json()["code"]) == (403, "own_request")
    assert say(client_of(owner), waiting(allow_requester=True)).status_code == 200


def test_who_requested_the_outermost_execution_may_not_decide(make_workflow, make_user, owner, client_of):
    make_workflow([{"id": "ok", "approval": {}}], name="Inner")
    make_workflow([{"id": "in", "workflow": {"id": "inner"}}], name="Middle")
    outer = make_workflow([{"id": "mid", "workflow": {"id": "middle"}}], name="Outer")
    requester = make_user("user")
    executions.start(outer, by=requester)
    task = Task.objects.get(step_id="ok")
    # As if somebody else had requested the inner ones.
    Execution.objects.exclude(workflow=outer).update(requested_by=owner)
    assert say(client_of(requester), task).json()["code"] == "own_request"
    assert say(client_of(owner), task).json()["code"] == "own_request"
    assert say(client_of(make_user("user")), task).status_code == 200


def test_only_those_who_are_asked_may_decide(waiting, make_user, client_of):
    anna = make_user("user", first_name="Anna")
    for who, user, expected in [
        ([anna.username], make_user("user"), 403),
        ([anna.username], make_user("admin"), 403),
        ([anna.username], anna, 200),
        (["system"], make_user("user"), 403),
        (["system"], make_user("system"), 200),
        (["system"], make_user("admin"), 200),
        (["nobody-is-called-so"], make_user("admin"), 403),
    ]:
        answer = say(client_of(user), waiting(who=who))
        assert answer.status_code == expected, (who, user)
        if expected == 403:
            assert answer.json()["code"] == "not_asked"


def test_who_is_asked_may_be_an_expression(make_workflow, make_user, client_of):
    anna = make_user("user")
    steps = [{"id": "ok", "approval": {"who": ["${inputs.who}"]}}]
    workflow = make_workflow(steps, inputs={"who": {"type": "string"}})
    started = executions.start(workflow, by=None, inputs={"who": anna.username})
    task = Task.objects.get(execution=started)
    assert say(client_of(make_user("user")), task).status_code == 403
    assert say(client_of(anna), task).status_code == 200


@pytest.mark.parametrize(
    ("form", "pointer"),
    [
        ({}, "/form"), ({"amount": "7"}, "/form/amount"), ({"amount": 101}, "/form/amount"),
        ({"amount": 1, "why": "A"}, "/form/why"), ({"amount": 1, "why": "a" * 600}, "/form/why"),
        ({"amount": 1, "more": 1}, "/form"), ({"amount": 1, "why": "a" * 70_000}, "/form"),
    ],
)  # fmt: skip
def test_a_form_that_does_not_fit_is_told_with_pointers(waiting, make_user, client_of, form, pointer):
    task = waiting(form=FORM)
    answer = say(client_of(make_user("user")), task, form=form)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_form")
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert Task.objects.get(pk=task.pk).status == "waiting"


def test_a_form_that_nobody_asked_for_is_refused(waiting, make_user, client_of):
    assert say(client_of(make_user("user")), waiting(), form={"a": 1}).json()["code"] == "invalid_form"


@pytest.mark.parametrize(
    "body", [{"form": []}, {"form": "x"}, {"reason": 1 << 62}, {"reason": "x" * 501}, {"approved": True}, [], "x"]
)
def test_a22_odd_bodies_are_400(waiting, make_user, client_of, body):
    task = waiting()
    client = client_of(make_user("user"))
    answer = client.post(f"/tasks/{task.pk}/approve", body, format="json")
    assert answer.status_code == (200 if body == {"reason": 1 << 62} else 400)


def test_a_form_whose_schema_is_none_can_be_rejected_only(waiting, make_user, client_of):
    from apps.workflows.selectors import graphs

    task = waiting(form={"type": "object"})
    version = task.execution.version
    version.definition["steps"][0]["approval"]["form"] = {"type": "no such type"}
    type(version).objects.filter(pk=version.pk).update(definition=version.definition)
    graphs.graph_of.cache_clear()
    client = client_of(make_user("user"))
    assert say(client, task, form={"a": 1}).json()["code"] == "bad_form"
    assert say(client, task, "reject").status_code == 200


def test_a8_who_may_decide(waiting, callers, run):
    task = waiting(allow_requester=True)
    executes = {"admin", "user", "agent", "system", "owner", "granted"}
    for name, client in callers(task.execution).items():
        for verb in ("approve", "reject"):
            told = say(client, task, verb).status_code
            # Who comes second is told that it is decided.
            expected = (200, 409) if name in executes else (404,) if name == "stranger" else (403,)
            assert told in expected, (name, verb, told)


@pytest.mark.django_db(transaction=True)
def test_of_two_at_once_one_wins(waiting, make_user):
    task, people = waiting(), [make_user("user") for _ in range(4)]

    def one(user):
        try:
            mine = Task.objects.select_related("execution__workflow").get(pk=task.pk)
            approvals.decide(mine, approved=True, by=user)
        except Conflict:
            return 0
        else:
            return 1
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(one, people)) == 1
    assert journal(task.execution).count(("task.completed", "ok")) == 1
    check_rows(task.execution)
