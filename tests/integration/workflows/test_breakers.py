"""Circuit breakers on a real database: what opens them, the single probe, who waits meanwhile, and who may ask."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.accounts.audit.models import AuditEntry
from apps.core.clock import database_now
from apps.monitoring.facts import cache
from apps.workflows.engine.breaker import Policy
from apps.workflows.models import BreakerCall, BreakerMove, CircuitBreaker, Event, Execution, Performer, Task
from apps.workflows.selectors import why
from apps.workflows.selectors.breakers import breakers_now
from apps.workflows.selectors.graphs import graph_of
from apps.workflows.selectors.invariants import verdict
from apps.workflows.services import breakers, leases
from apps.workflows.services.ledger import turn
from tests.integration.conftest import noop
from tests.integration.workflows.driver import (
    accepted,
    check_rows,
    claim,
    done,
    drive,
    failed,
    journal,
    statuses,
    wanted,
)

pytestmark = pytest.mark.django_db(transaction=True)  # calls are counted after their commit

WAREHOUSE = {"name": "warehouse", "failures": 2, "open_seconds": 60}


def guarded(identity, *depends_on, breaker=WAREHOUSE, **values):
    return noop(identity, *depends_on, circuit_breaker=breaker, **values)


def down(task):
    return failed(task, type="connection", message="refused")


def away(task):
    return failed(task, type="unavailable", message="the engine does not answer")


@pytest.fixture
def many(run):
    """An execution of so many steps behind the breaker, beside one that has none."""

    def start(count=6, **values):
        return run([*(guarded(f"s{n}", **values) for n in range(count)), noop("free")])

    return start


def claim_all():
    """As a worker does: it looks again while there is more."""
    taken = {}
    while True:
        result = turn([], wanted())
        taken |= {task.step_id: task for task in result.claimed}
        if not result.more:
            return taken


def state():
    return CircuitBreaker.objects.get(name="warehouse").state


def probe_is_due():
    """As if the time for a probe had come, for the breaker and for those who wait for it."""
    CircuitBreaker.objects.filter(state="open").update(probe_at=database_now())
    those_who_wait_come()


def those_who_wait_come():
    now = database_now()
    Task.objects.filter(waiting_for__startswith="breaker:").update(ready_at=now)
    Execution.objects.filter(ready_at__isnull=False).update(ready_at=now, rank=now)


def opened(many, **values):
    """An execution whose breaker has just opened: two of its steps failed."""
    execution = many(**values)
    accepted(*map(down, turn([], wanted(2)).claimed))
    assert state() == "open"
    return execution


# --- opening ----------------------------------------------------------------------------------------------------------


def test_failures_open_it_and_the_rest_stays_in_line_while_other_work_goes_on(many):
    execution = opened(many)
    assert list(claim()) == ["free"]
    waiting = Task.objects.filter(execution=execution, status="pending")
    row = CircuitBreaker.objects.get()
    assert {task.waiting_for for task in waiting} == {"breaker:warehouse"}
    assert {task.ready_at for task in waiting} == {row.probe_at}
    assert abs(row.probe_at - row.since - timedelta(seconds=60)) < timedelta(seconds=1)
    assert journal(execution).count(("task.held_back", "s3")) == 1
    assert not claim()
    assert not verdict().violations


def test_the_users_own_mistakes_open_nothing(many):
    execution = many()
    accepted(*(failed(task, retryable=False) for task in claim().values()))
    breakers.sweep()
    (told,) = breakers_now()
    assert (told.state, told.calls_total["failure"], told.calls_total["success"]) == ("closed", 0, 6)
    execution.refresh_from_db()
    assert execution.status == "failed"


def test_one_engine_that_is_away_opens_it_and_no_step_fails_by_it(run):
    execution = run([guarded("a"), guarded("b"), guarded("c")])
    result = accepted(away(claim(1)["a"]), then=wanted())
    assert not result.claimed, "what was reported a moment ago in the same transaction is known"
    assert state() == "open"
    assert statuses(execution) == {"a": "pending", "b": "pending", "c": "pending"}
    task = Task.objects.get(step_id="a")
    assert (task.failures, task.waiting_for) == (0, "breaker:warehouse")
    assert task.error["type"] == "unavailable"
    assert not verdict().violations


def test_a_thousand_steps_survive_an_engine_that_is_away(run):
    image = {"for_each": list(range(1000)), "image": "local/tool:1", "command": ["true"]}
    execution = run([{"id": "load", **image}])
    drive(away)
    row = CircuitBreaker.objects.get(name="container-engine")
    assert row.state == "open"
    assert row.failed_total <= 16, "no more than were claimed together before it was known"
    assert not Task.objects.filter(failures__gt=0).exists()
    probe_is_due()
    drive(done)
    check_rows(execution)
    assert execution.status == "completed"
    assert set(CircuitBreaker.objects.values_list("state", flat=True)) == {"closed"}


def test_what_cannot_ever_be_performed_fails_at_once(run):
    execution = run([guarded("a")])
    accepted(failed(claim()["a"], type="unavailable", retryable=False))
    assert statuses(execution) == {"a": "failed"}


def test_a_breaker_of_the_workflow_is_asked_by_all_its_steps(run):
    run([noop("a"), noop("b"), noop("c")], circuit_breaker={"name": "nightly", "failures": 2})
    accepted(*map(down, claim(2).values()))
    assert CircuitBreaker.objects.get().state == "open"
    assert not claim()


def test_it_is_shared_by_name_over_workflows(run, many):
    opened(many)
    other = run([guarded("x", breaker="warehouse"), noop("y")])
    assert {"y", "free"} == set(claim())
    assert Task.objects.get(execution=other, step_id="x").waiting_for == "breaker:warehouse"


# --- the probe --------------------------------------------------------------------------------------------------------


def test_one_probe_goes_through_and_its_success_lets_all_others_come(many):
    execution = opened(many)
    accepted(done(claim()["free"]))
    probe_is_due()
    (probe,) = claim().values()
    assert state() == "half_open"
    assert not claim()
    assert Event.objects.get(step_id=probe.step_id, type="task.started").data["probe_of"] == ["warehouse"]
    accepted(done(probe))
    assert state() == "closed"
    assert len(claim()) == 3, "they need not wait for the time they were told"
    assert not verdict().violations
    check_rows(execution)


def test_a_probe_that_fails_opens_it_anew(many):
    opened(many)
    probe_is_due()
    (probe,) = [task for task in claim().values() if task.step_id != "free"]
    accepted(down(probe))
    row = CircuitBreaker.objects.get()
    assert (row.state, row.reason, row.opened_total) == ("open", "probe_failed", 2)
    assert not claim()


def test_exactly_one_probe_over_several_workers(run):
    # In several executions: claims of one execution stand in line for its lock anyway.
    for _ in range(12):
        run([guarded("a"), guarded("b")])
    opened(lambda: run([guarded("a"), guarded("b")]))
    claim_all()
    for _ in range(3):
        probe_is_due()
        taken, wrong = [], []
        begin = threading.Barrier(6)

        def work(name, taken=taken, wrong=wrong, begin=begin):
            try:
                begin.wait(30)
                more = True
                while more:
                    result = turn([], wanted(4, name))
                    taken.extend(result.claimed)
                    more = result.more
            except Exception as error:
                wrong.append(error)
            finally:
                connection.close()

        threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not wrong
        assert len(taken) == 1
        accepted(down(taken[0]))
    assert CircuitBreaker.objects.get().half_opened_total == 3


def test_a_probe_that_is_lost_leaves_its_place_to_another(many):
    opened(many)
    accepted(done(claim()["free"]))
    probe_is_due()
    (probe,) = claim().values()
    Task.objects.filter(pk=probe.task_id).update(lease_expires_at=database_now() - timedelta(seconds=1))
    assert leases.reap() == 1
    those_who_wait_come()
    (other,) = claim().values()
    assert (other.step_id, other.fence) != (probe.step_id, probe.fence)
    assert state() == "half_open"
    assert CircuitBreaker.objects.get().half_opened_total == 1
    accepted(done(other))
    assert state() == "closed"


def test_a_result_that_was_not_counted_before_its_worker_died_is_counted_by_the_next_who_asks(many, monkeypatch):
    opened(many)
    accepted(done(claim()["free"]))
    probe_is_due()
    (probe,) = claim().values()
    monkeypatch.setattr("apps.workflows.services.ledger.breakers._after", lambda *_: None)  # it dies after the commit
    accepted(done(probe))
    assert state() == "half_open"
    those_who_wait_come()
    assert len(claim()) == 3
    assert state() == "closed"


def test_a_late_result_of_a_call_that_began_before_does_not_close_it(many):
    many()
    early = claim(4)
    names = [name for name in early if name != "free"]
    accepted(*(down(early[name]) for name in names[:2]))
    assert state() == "open"
    accepted(done(early[names[2]]))
    breakers.sweep()
    assert state() == "open"


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_opened_by_hand_until_reset(many, owner):
    many()
    breakers.open_("warehouse", by=owner, note="maintenance")
    assert list(claim()) == ["free"]
    probe_at = CircuitBreaker.objects.get().probe_at
    assert probe_at is None
    breakers.reset("warehouse", by=owner)
    assert len(claim()) == 6
    moves = list(BreakerMove.objects.order_by("pk").values_list("to_state", "reason", "by", "note"))
    assert moves == [
        ("open", "manual", owner.username, "maintenance"),
        ("closed", "reset", owner.username, ""),
    ]


def test_fixed_thresholds_are_not_changed_by_definitions(make_workflow, owner):
    make_workflow([guarded("a", breaker={"name": "warehouse", "failures": 7})])
    assert CircuitBreaker.objects.get().open_failures == 7
    breakers.fix("warehouse", Policy(failures=3))
    make_workflow([guarded("a", breaker={"name": "warehouse", "failures": 9})])
    assert CircuitBreaker.objects.get().open_failures == 3
    breakers.fix("warehouse", None)
    make_workflow([guarded("a", breaker={"name": "warehouse", "failures": 9})])
    assert CircuitBreaker.objects.get().open_failures == 9
    make_workflow([guarded("a", breaker="warehouse")])
    assert CircuitBreaker.objects.get().open_failures == 9, "a definition that gives no thresholds changes none"


# --- seen -------------------------------------------------------------------------------------------------------------


def test_why_names_the_breaker_its_state_and_the_way_out(many, owner):
    execution = opened(many)
    claim()
    Performer.objects.create(
        name="w9", kind="worker", slots=4, load=0, labels={}, queues=None, started_at=database_now(),
        seen_at=database_now(),
    )  # fmt: skip
    task = Task.objects.select_related("execution__workflow").filter(execution=execution, status="pending").first()
    (told,) = why.why(owner, task)["reasons"]
    assert (told["code"], told["name"], told["state"]) == ("breaker", "warehouse", "open")
    assert told["error_type"] == "connection"
    assert "POST /circuit-breakers/warehouse/reset" in told["message"]
    assert told["probe_at"] in told["message"]


def test_the_life_of_a_breaker_in_its_moves_and_in_metrics(many, as_user):
    opened(many)
    accepted(done(claim()["free"]))
    probe_is_due()
    accepted(*map(down, claim().values()))
    probe_is_due()
    accepted(*map(done, claim().values()))
    moves = list(BreakerMove.objects.order_by("pk").values_list("to_state", "reason"))
    assert moves == [
        ("open", "failures"),
        ("half_open", "probe"),
        ("open", "probe_failed"),
        ("half_open", "probe"),
        ("closed", "probe_succeeded"),
    ]
    cache.forget()
    text = as_user("system").get("/monitoring/metrics").content.decode()
    lines = {line for line in text.splitlines() if line.startswith("dagger_circuit_breaker")}
    print("\n".join(sorted(lines)))
    refused = sum(BreakerCall.objects.filter(result="refused").values_list("count", flat=True))
    refused += CircuitBreaker.objects.get().refused_total
    assert lines >= {
        'dagger_circuit_breaker_state{circuit_breaker="warehouse",state="closed"} 1.0',
        'dagger_circuit_breaker_state{circuit_breaker="warehouse",state="open"} 0.0',
        'dagger_circuit_breaker_failure_ratio{circuit_breaker="warehouse"} 0.0',
        'dagger_circuit_breaker_calls_total{circuit_breaker="warehouse",result="success"} 1.0',
        'dagger_circuit_breaker_calls_total{circuit_breaker="warehouse",result="failure"} 3.0',
        f'dagger_circuit_breaker_calls_total{{circuit_breaker="warehouse",result="refused"}} {float(refused)}',
        'dagger_circuit_breaker_transitions_total{circuit_breaker="warehouse",to_state="open"} 2.0',
        'dagger_circuit_breaker_transitions_total{circuit_breaker="warehouse",to_state="half_open"} 2.0',
        'dagger_circuit_breaker_transitions_total{circuit_breaker="warehouse",to_state="closed"} 1.0',
    }


def test_what_is_not_yet_counted_is_in_the_totals_all_the_same(many):
    many()
    accepted(*map(done, claim(3).values()))
    assert BreakerCall.objects.count() == 3
    (told,) = breakers_now()
    assert told.calls_total["success"] == 3
    breakers.sweep()
    (counted,) = breakers_now()
    assert (counted.calls_total, counted.calls) == (told.calls_total, 3)
    assert not BreakerCall.objects.exists()


def test_an_execution_with_breakers_shares_rows_with_others(run):
    """So its turns are whole transactions: what is to be counted stands or falls with the report."""
    assert not graph_of(run([guarded("a")]).version_id).alone
    assert graph_of(run([noop("a")]).version_id).alone


def test_a_step_without_a_breaker_asks_no_more_of_the_database(run):
    run([noop(f"s{n}") for n in range(4)])
    with CaptureQueriesContext(connection) as asked:
        accepted(*map(done, claim(2).values()), then=wanted(2))
    assert not [query["sql"] for query in asked if "breaker" in query["sql"]]


# --- over HTTP --------------------------------------------------------------------------------------------------------


def test_operators_open_and_reset_it_and_the_log_tells(many, as_user):
    many()
    operator, guest = as_user("system"), as_user("guest")
    assert [one["name"] for one in guest.get("/circuit-breakers").json()] == ["warehouse"]
    assert guest.post("/circuit-breakers/warehouse/open", {}, format="json").status_code == 403
    opened = operator.post("/circuit-breakers/warehouse/open", {"note": "upgrade"}, format="json")
    assert opened.status_code == 200, opened.json()
    told = guest.get("/circuit-breakers/warehouse").json()
    assert (told["state"], told["reason"], told["probe_at"]) == ("open", "manual", None)
    assert told["moves"][0] | {"at": ""} == {
        "at": "", "to_state": "open", "reason": "manual", "by": operator.user.username, "note": "upgrade",
    }  # fmt: skip
    assert operator.post("/circuit-breakers/warehouse/reset", {}, format="json").json()["state"] == "closed"
    assert list(AuditEntry.objects.filter(outcome="done").order_by("pk").values_list("action", "object_id")) == [
        ("circuit-breaker.open", "warehouse"),
        ("circuit-breaker.reset", "warehouse"),
    ]


def test_thresholds_are_fixed_over_http_and_mistakes_are_named(many, as_user):
    many()
    operator = as_user("system")
    policy = {"failures": 9, "ratio": 0.25, "window_seconds": 10, "open_seconds": 5}
    told = operator.put("/circuit-breakers/warehouse", {"policy": policy}, format="json").json()
    assert (told["policy"], told["fixed"]) == (policy, True)
    assert operator.put("/circuit-breakers/warehouse", {"policy": None}, format="json").json()["fixed"] is False
    wrong = operator.put("/circuit-breakers/warehouse", {"policy": {**policy, "ratio": 7}}, format="json")
    assert wrong.status_code == 400
    assert wrong.json()["errors"][0]["pointer"] == "/policy/ratio"
    assert operator.post("/circuit-breakers/nobody/reset", {}, format="json").status_code == 404
    assert operator.post("/circuit-breakers/warehouse/open", {"seconds": -1}, format="json").status_code == 400


def test_opened_for_a_time_a_probe_decides_after_it(many, as_user):
    many()
    told = as_user("system").post("/circuit-breakers/warehouse/open", {"seconds": 600}, format="json").json()
    assert told["probe_at"] is not None
    assert state() == "open"
    probe_is_due()
    taken = claim()
    assert len(taken) == 2
    assert "free" in taken
