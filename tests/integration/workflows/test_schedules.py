"""Schedules: what is due is started once, whoever looks; what was missed, what overlaps, what is filled in."""

import contextlib
import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connection
from guardian.shortcuts import assign_perm, remove_perm
from rest_framework.test import APIClient

from apps.accounts.models import Role, User
from apps.core.clock import database_now
from apps.core.errors import Conflict, Invalid
from apps.workflows.models import Execution, Schedule, Trigger, Workflow
from apps.workflows.services import executions, schedules, workflows
from apps.workflows.services.schedules import Wanted, fire_due, firing
from tests.integration.conftest import noop
from tests.integration.workflows.driver import claim, drive

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def clock(monkeypatch):
    """The database's time as schedules see it: `clock(NOON)`."""

    def set_to(moment):
        for module in ("firing", "saving", "filling"):
            monkeypatch.setattr(f"apps.workflows.services.schedules.{module}.database_now", lambda: moment)
        monkeypatch.setattr("apps.workflows.selectors.schedules.database_now", lambda: moment)
        return moment

    set_to(NOON - HOUR / 2)
    return set_to


@pytest.fixture
def workflow(make_workflow):
    return make_workflow([noop("a")])


@pytest.fixture
def make_schedule(workflow, owner, clock):
    """An hourly schedule, made at half past eleven: its first moment is `NOON`."""

    def make(**values):
        given = {"name": "hourly", "cron": "0 * * * *", "overlap": "allow", **values}
        by, on = given.pop("by", owner), given.pop("on", workflow)
        return schedules.create(on, Wanted(**given), by=by)

    return make


def moments(schedule):
    """The hours (since noon) whose executions there are, in the order in which they were started."""
    found = schedule.executions.order_by("id").values_list("scheduled_for", flat=True)
    return [(moment - NOON) / HOUR for moment in found]


def told(schedule):
    schedule.refresh_from_db()
    hours = None if schedule.last_at is None else (schedule.last_at - NOON) / HOUR
    return schedule.last_outcome, hours, schedule.last_error


# --- carried out ----------------------------------------------------------------------------------------------------


def test_what_is_due_is_started_as_its_owner_and_moves_on(make_schedule, owner, clock):
    schedule = make_schedule(priority=7)
    assert schedule.next_at == NOON
    assert fire_due() == NOON
    assert not Execution.objects.exists()
    clock(NOON + timedelta(seconds=1))
    assert fire_due() == NOON + HOUR
    assert fire_due() == NOON + HOUR
    (execution,) = schedule.executions.all()
    assert (execution.trigger, execution.scheduled_for) == (Trigger.SCHEDULE, NOON)
    assert (execution.requested_by, execution.priority) == (owner, 7)
    assert told(schedule) == ("started", 0, "")
    drive()
    execution.refresh_from_db()
    assert execution.status == "completed"


def test_without_schedules_there_is_nothing_to_wait_for(clock):
    assert fire_due() is None


def test_the_moment_stands_in_the_inputs(make_workflow, make_schedule, clock):
    asked = {"day": {"type": "string", "format": "date"}, "deep": {"type": "object"}, "at": {"format": "date-time"}}
    inputs = {
        "day": "${scheduled_date}",
        "at": "${scheduled_for}",
        "deep": {"${scheduled_for}": ["to ${scheduled_date}.csv", "${inputs.day} ${scheduled} $scheduled_for", 7]},
    }
    schedule = make_schedule(
        on=make_workflow([noop("a")], inputs=asked), cron="30 23 * * *", timezone="America/New_York", inputs=inputs
    )
    clock(schedule.next_at)
    fire_due()
    assert schedule.executions.get().inputs == {
        "day": "2026-06-15",
        "at": "2026-06-16T03:30:00Z",
        "deep": {"${scheduled_for}": ["to 2026-06-15.csv", "${inputs.day} ${scheduled} $scheduled_for", 7]},
    }


def test_a_pause_starts_nothing_and_is_not_caught_up(make_schedule, clock):
    schedule = make_schedule(catch_up="all")
    assert schedules.pause(schedule).next_at is None
    clock(NOON + 5.5 * HOUR)
    assert fire_due() is None
    assert schedules.resume(schedule).next_at == NOON + 6 * HOUR
    fire_due()
    assert moments(schedule) == []


def test_another_cron_counts_from_now_and_other_inputs_move_nothing(make_schedule, owner, clock):
    schedule = make_schedule()
    clock(NOON + timedelta(seconds=5))
    wanted = {"name": "hourly", "cron": "0 * * * *"}
    assert schedules.update(schedule, Wanted(**wanted, priority=3), by=owner).next_at == NOON
    moved = schedules.update(schedule, Wanted(**{**wanted, "cron": "30 * * * *"}), by=owner)
    assert moved.next_at == NOON + HOUR / 2


def test_what_a_deleted_schedule_has_started_stays(make_schedule, clock):
    schedule = make_schedule()
    clock(NOON)
    fire_due()
    schedules.delete(schedule)
    execution = Execution.objects.get()
    assert (execution.schedule, execution.status) == (None, "pending")
    drive()
    assert fire_due() is None


# --- missed ---------------------------------------------------------------------------------------------------------

MISSED = NOON + 3 * HOUR + timedelta(minutes=20)  # of 12, 13, 14 and 15 o'clock none is younger than a minute
JUST_IN_TIME = NOON + 3 * HOUR + timedelta(seconds=59)


@pytest.mark.parametrize(
    ("catch_up", "now", "started"),
    [
        ("none", MISSED, []),
        ("last", MISSED, [3]),
        ("all", MISSED, [0, 1, 2, 3]),
        ("none", JUST_IN_TIME, [3]),
        ("last", JUST_IN_TIME, [2, 3]),
        ("all", JUST_IN_TIME, [0, 1, 2, 3]),
    ],
)
def test_what_was_missed_is_caught_up_as_the_policy_says(make_schedule, clock, catch_up, now, started):
    schedule = make_schedule(catch_up=catch_up)
    clock(now)
    assert fire_due() == NOON + 4 * HOUR
    assert moments(schedule) == started
    assert told(schedule) == ("started" if started else "missed", 3, "")


def test_a_minute_late_is_missed_and_not_before(make_schedule, clock):
    schedule = make_schedule(catch_up="none")
    clock(NOON + timedelta(seconds=60))
    fire_due()
    assert moments(schedule) == [0]
    clock(NOON + HOUR + timedelta(seconds=60, microseconds=1))
    fire_due()
    assert moments(schedule) == [0]


def test_all_is_bounded_by_call_and_by_the_last_thousand(make_schedule, clock, monkeypatch):
    monkeypatch.setattr(firing, "CATCH_UP_AT_MOST", 5)
    schedule = make_schedule(catch_up="all")
    clock(NOON + 20.5 * HOUR)
    assert fire_due(limit=2) == NOON + 18 * HOUR
    assert moments(schedule) == [16, 17]
    assert fire_due() == NOON + 21 * HOUR
    assert moments(schedule) == [16, 17, 18, 19, 20]


def test_a_long_past_keeps_no_other_waiting(make_schedule, clock):
    old = make_schedule(name="old", catch_up="all")
    clock(NOON + 99.5 * HOUR)
    young = make_schedule(name="young")
    clock(NOON + 100 * HOUR)
    fire_due(limit=4)
    assert (moments(old), moments(young)) == ([0, 1, 2], [100])


# --- overlap --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overlap", "started", "outcome"),
    [("allow", ["pending", "pending"], "started"), ("skip", ["pending"], "passed_over"),
     ("cancel_running", ["cancelled", "pending"], "started")],
)  # fmt: skip
def test_a_moment_that_finds_the_last_one_running(make_schedule, clock, overlap, started, outcome):
    schedule = make_schedule(overlap=overlap)
    for hour in (0, 1):
        clock(NOON + hour * HOUR)
        assert fire_due() == NOON + (hour + 1) * HOUR
    assert list(schedule.executions.order_by("id").values_list("status", flat=True)) == started
    assert told(schedule) == (outcome, 1, "")


def test_one_that_works_is_asked_to_stop_and_does_not_hold_up_the_next(make_schedule, clock):
    schedule = make_schedule(overlap="cancel_running")
    for hour in (0, 1, 2):
        clock(NOON + hour * HOUR)
        fire_due()
        claim()
    assert moments(schedule) == [0, 1, 2]
    asked = schedule.executions.order_by("id").values_list("cancel_requested_at", flat=True)
    assert [moment is not None for moment in asked] == [True, True, False]


def test_when_the_last_one_has_ended_nothing_overlaps(make_schedule, clock):
    schedule = make_schedule(overlap="skip")
    for hour in (0, 1):
        clock(NOON + hour * HOUR)
        fire_due()
        drive()
    assert moments(schedule) == [0, 1]


def test_what_a_backfill_runs_is_neither_in_the_way_nor_cancelled(make_schedule, owner, clock):
    skipping = make_schedule(name="skipping", overlap="skip")
    cancelling = make_schedule(name="cancelling", overlap="cancel_running")
    for schedule in (skipping, cancelling):
        schedules.backfill(schedule, since=NOON - 3 * HOUR, until=NOON - HOUR, by=owner)
    clock(NOON)
    fire_due()
    for schedule in (skipping, cancelling):
        assert moments(schedule) == [-3, -2, 0]
    assert set(Execution.objects.values_list("status", flat=True)) == {"pending"}


def test_a_start_that_fails_cancels_nothing(make_workflow, make_schedule, owner, clock):
    workflow = make_workflow([noop("a")], name="Changing")
    schedule = make_schedule(on=workflow, overlap="cancel_running")
    clock(NOON)
    fire_due()
    workflows.update(workflow, {"name": "Changing", "steps": [noop("a")], "inputs": {"n": {}}}, by=owner)
    clock(NOON + HOUR)
    fire_due()
    assert schedule.executions.get().status == "pending"
    assert told(schedule)[0] == "failed"


# --- what goes wrong ------------------------------------------------------------------------------------------------


def new_inputs(schedule):
    data = {"name": schedule.workflow.name, "steps": [noop("a")], "inputs": {"n": {"type": "integer"}}}
    workflows.update(schedule.workflow, data, by=schedule.owner)


def no_right(schedule):
    schedule.owner.roles.clear()
    Workflow.objects.filter(pk=schedule.workflow_id).update(owner=None)


def disabled(schedule):
    User.objects.filter(pk=schedule.owner_id).update(is_active=False)


def deleted(schedule):
    User.objects.get(pk=schedule.owner_id).delete()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(new_inputs, "/inputs/n"), (no_right, "workflow:execute"), (disabled, "is disabled"), (deleted, "was deleted")],
)
def test_an_error_is_told_moves_on_and_stops_no_other(make_schedule, make_workflow, make_user, clock, spoil, reason):
    bad = make_schedule()
    friend = make_user("user")
    good = make_schedule(on=make_workflow([noop("a")]), by=friend)
    spoil(bad)
    clock(NOON)
    assert fire_due() == NOON + HOUR
    outcome, hour, error = told(bad)
    assert (outcome, hour) == ("failed", 0)
    assert reason in error
    assert (moments(bad), moments(good)) == ([], [0])


def test_a_right_that_was_granted_on_the_workflow_is_enough(make_user, make_schedule, workflow, clock):
    friend = make_user()
    assign_perm("workflow:execute", friend, workflow)
    schedule = make_schedule(by=friend)
    clock(NOON)
    fire_due()
    remove_perm("workflow:execute", friend, workflow)
    clock(NOON + HOUR)
    fire_due()
    assert moments(schedule) == [0]
    assert told(schedule)[:2] == ("failed", 1)


def test_whoever_saves_a_schedule_without_an_owner_becomes_it(make_schedule, make_user, clock):
    schedule = make_schedule()
    deleted(schedule)
    friend = make_user("admin")
    schedules.update(schedule, Wanted(name="hourly", cron="0 * * * *"), by=friend)
    clock(NOON)
    fire_due()
    assert schedule.executions.get().requested_by == friend


@pytest.mark.parametrize("failure", [RuntimeError("a bug"), OperationalError("deadlock detected")])
def test_a_crash_in_the_middle_undoes_the_start_and_the_move(make_schedule, clock, monkeypatch, caplog, failure):
    schedule = make_schedule()
    other = make_schedule(name="other")
    begin = executions.start

    def break_down(workflow, **values):
        begin(workflow, **values)
        if values["schedule"] == schedule:
            raise failure

    clock(NOON)
    with monkeypatch.context() as broken, caplog.at_level("CRITICAL"):
        broken.setattr(executions, "start", break_down)
        assert fire_due() == NOON
    assert not schedule.executions.exists()
    assert moments(other) == [0]
    fire_due()
    assert moments(schedule) == [0]
    assert told(schedule) == ("started", 0, "")


def test_what_breaks_down_again_and_again_is_passed_over_once_it_counts_as_missed(
    make_schedule, clock, monkeypatch, caplog
):
    schedule = make_schedule()

    def break_down(*_, **__):
        raise RuntimeError("a bug")

    with monkeypatch.context() as broken, caplog.at_level("CRITICAL"):
        broken.setattr(executions, "start", break_down)
        clock(NOON)
        assert fire_due() == NOON
        outcome, hour, error = told(schedule)
        assert (outcome, hour) == ("failed", 0)
        assert "server's log" in error
        clock(NOON + timedelta(minutes=2))
        assert fire_due() == NOON + HOUR


def test_a_process_that_dies_has_neither_started_nor_moved(make_schedule, clock, monkeypatch):
    schedule = make_schedule()
    begin = executions.start

    def die(workflow, **values):
        begin(workflow, **values)
        raise KeyboardInterrupt

    clock(NOON)
    with monkeypatch.context() as broken:
        broken.setattr(executions, "start", die)
        with pytest.raises(KeyboardInterrupt):
            fire_due()
    schedule.refresh_from_db()
    assert (schedule.next_at, moments(schedule)) == (NOON, [])


def test_a_zone_that_has_left_the_system_pauses_the_schedule(make_schedule, clock):
    schedule = make_schedule()
    Schedule.objects.filter(pk=schedule.pk).update(timezone="Mars/Olympus")
    clock(NOON)
    assert fire_due() is None
    assert "Mars/Olympus" in told(schedule)[2]
    assert schedule.paused


@pytest.mark.django_db(transaction=True)
def test_two_schedulers_at_once_start_each_moment_exactly_once(make_schedule, clock, caplog):
    made = [make_schedule(name=f"s{n}", catch_up="all") for n in range(6)]
    clock(NOON + 9.5 * HOUR)
    wrong, together = [], threading.Barrier(4)

    def look():
        try:
            together.wait(60)
            for _ in range(200):
                if fire_due(limit=3) == NOON + 10 * HOUR:
                    break
        except Exception as error:
            wrong.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert not caplog.records, "none of them ran into another"
    for schedule in made:
        assert moments(schedule) == list(range(10))


@pytest.mark.django_db(transaction=True)
def test_a_workflow_deleted_while_its_schedule_is_due_takes_it_along(make_schedule, workflow, clock):
    make_schedule()
    clock(NOON)
    wrong, together = [], threading.Barrier(2)

    def run(act):
        try:
            together.wait(60)
            act()
        except Exception as error:
            wrong.append(error)
        finally:
            connection.close()

    def delete():
        with contextlib.suppress(Conflict):  # it came second: an execution runs
            workflows.delete(Workflow.objects.get(pk=workflow.pk))

    threads = [threading.Thread(target=run, args=(act,)) for act in (fire_due, delete)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert Execution.objects.count() == Schedule.objects.count() == Workflow.objects.filter(pk=workflow.pk).count()


# --- backfill -------------------------------------------------------------------------------------------------------


def test_a_backfill_starts_each_moment_once_as_the_caller(make_schedule, make_user, clock):
    schedule, caller = make_schedule(inputs={}), make_user("admin")
    clock(NOON)
    fire_due()
    clock(NOON + HOUR / 2)
    first = schedules.backfill(schedule, since=NOON - 2 * HOUR, until=NOON + timedelta(seconds=1), by=caller)
    assert [(e.scheduled_for - NOON) / HOUR for e in first.started] == [-2, -1]
    assert [e.scheduled_for for e in first.already_there] == [NOON]
    again = schedules.backfill(schedule, since=NOON - 2 * HOUR, until=NOON + timedelta(seconds=1), by=caller)
    assert [e.pk for e in again.already_there] == [e.pk for e in (*first.started, *first.already_there)]
    assert not again.started
    assert {e.requested_by for e in first.started} == {caller}
    assert {e.trigger for e in first.started} == {Trigger.CALLER}
    assert moments(schedule) == [0, -2, -1]


def test_the_end_of_a_backfill_does_not_belong_to_it(make_schedule, owner):
    schedule = make_schedule()
    done = schedules.backfill(schedule, since=NOON - 2 * HOUR, until=NOON - HOUR, by=owner)
    assert [e.scheduled_for for e in done.started] == [NOON - 2 * HOUR]


def test_a_moment_that_was_filled_in_is_not_started_when_it_comes(make_schedule, owner, clock):
    schedule = make_schedule()
    clock(NOON + timedelta(seconds=2))
    schedules.backfill(schedule, since=NOON, until=NOON + timedelta(seconds=1), by=owner)
    assert fire_due() == NOON + HOUR
    assert moments(schedule) == [0]
    assert told(schedule) == ("started", 0, "")


def test_a_backfill_of_too_many_says_how_many_and_what_to_do(make_schedule, owner):
    schedule = make_schedule()
    with pytest.raises(Invalid) as refused:
        schedules.backfill(schedule, since=NOON - 600 * HOUR, until=NOON - HOUR, by=owner)
    (problem,) = refused.value.problems
    assert "these are 599 moments and a request may have 500" in problem.message
    assert f"first until {NOON - 100 * HOUR:%Y-%m-%dT%H:%M:%SZ}" in problem.message
    assert not Execution.objects.exists()


def test_a_backfill_whose_inputs_do_not_fit_starts_nothing(make_workflow, make_schedule, owner):
    workflow = make_workflow([noop("a")], inputs={"day": {"type": "string", "pattern": "^2026-06-1[4-9]$"}})
    schedule = make_schedule(on=workflow, cron="@daily", inputs={"day": "${scheduled_date}"})
    with pytest.raises(Invalid, match="do not fit"):
        schedules.backfill(schedule, since=NOON - 72 * HOUR, until=NOON - HOUR, by=owner)
    assert not Execution.objects.exists()


# --- REST -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def as_user(make_user):
    """A client that is somebody: `as_user("user")`."""

    def make(role_or_user=None):
        client = APIClient()
        user = role_or_user if isinstance(role_or_user, User) else make_user(role_or_user)
        client.force_authenticate(user)
        client.user = user
        return client

    return make


@pytest.fixture
def api(as_user, owner, clock):
    return as_user(owner)


@pytest.fixture
def body(workflow):
    return {"workflow_id": workflow.slug, "name": "nightly", "cron": "30 2 * * *", "timezone": "Europe/Berlin"}


def test_a_schedule_is_saved_shown_changed_and_deleted(api, body):
    answer = api.post("/schedules", body, format="json")
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert {**body, **made} == made
    assert (made["catch_up"], made["overlap"], made["paused"], made["priority"]) == ("last", "skip", False, None)
    assert made["next_times"] == [f"2026-06-{day}T00:30:00Z" for day in range(16, 21)]
    assert made["next_at"] == made["next_times"][0]
    path = f"/schedules/{made['id']}"
    assert api.get(path).json() == made
    changed = api.put(path, {"name": "noon", "cron": "0 12 * * *", "priority": 5}, format="json").json()
    assert (changed["name"], changed["timezone"], changed["next_at"]) == ("noon", "UTC", "2026-06-15T12:00:00Z")
    paused = api.post(f"{path}/pause").json()
    assert (paused["paused"], paused["next_at"], paused["next_times"]) == (True, None, [])
    assert api.post(f"{path}/resume").json()["next_at"] == "2026-06-15T12:00:00Z"
    assert api.delete(path).status_code == 204
    assert api.get(path).status_code == 404


def test_lists_are_filtered_and_paged(api, body, make_workflow):
    other = make_workflow([noop("a")]).slug
    for number in range(3):
        api.post("/schedules", {**body, "name": f"s{number}"}, format="json")
    api.post("/schedules", {**body, "workflow_id": other}, format="json")
    page = api.get("/schedules?limit=2").json()
    assert [s["name"] for s in page["results"]] == ["nightly", "s2"]
    assert [s["name"] for s in api.get(page["next"]).json()["results"]] == ["s1", "s0"]
    assert [s["workflow_id"] for s in api.get(f"/schedules?workflow_id={other}").json()["results"]] == [other]
    assert api.get("/schedules?workflow_id=%00").status_code == 400


def test_a_list_costs_the_same_however_long_it_is(api, body, django_assert_max_num_queries):
    for number in range(5):
        api.post("/schedules", {**body, "name": f"s{number}"}, format="json")
    with django_assert_max_num_queries(3):
        assert len(api.get("/schedules").json()["results"]) == 5


def test_a_preview_saves_nothing(as_user, clock):
    api = as_user()
    answer = api.post("/schedules/preview", {"cron": "@hourly", "timezone": "Asia/Kolkata"}, format="json")
    assert answer.status_code == 200
    assert answer.json() == {"next_times": [f"2026-06-15T{hour}:30:00Z" for hour in range(12, 17)]}
    assert not Schedule.objects.exists()


def test_every_mistake_is_told_at_once(api, body, make_workflow):
    target = make_workflow([noop("a")], inputs={"n": {"type": "integer"}}).slug
    wrong = {**body, "workflow_id": target, "cron": "61 * * * *", "timezone": "Berlin", "inputs": {"n": "x", "m": 1}}
    answer = api.post("/schedules", wrong, format="json")
    assert answer.status_code == 400
    pointers = {error["pointer"]: error["message"] for error in answer.json()["errors"]}
    assert set(pointers) == {"/cron", "/timezone", "/inputs/n", "/inputs/m"}
    assert "did you mean `Europe/Berlin`?" in pointers["/timezone"]


def test_a_name_is_taken_once_for_each_workflow(api, body):
    made = api.post("/schedules", body, format="json").json()
    again = api.post("/schedules", body, format="json")
    assert (again.status_code, again.json()["code"]) == (409, "name_taken")
    other = api.post("/schedules", {**body, "name": "other"}, format="json").json()
    change = {"name": "nightly", "cron": "@daily"}
    assert api.put(f"/schedules/{other['id']}", change, format="json").json()["code"] == "name_taken"
    assert api.put(f"/schedules/{made['id']}", change, format="json").status_code == 200


def test_a_tracker_is_not_scheduled(api, body, owner):
    workflows.create_tracker("elsewhere", by=owner)
    answer = api.post("/schedules", {**body, "workflow_id": "elsewhere"}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_a_workflow")


def test_a_backfill_lists_what_it_started_and_what_was_there(api, body):
    made = api.post("/schedules", {**body, "cron": "@hourly", "timezone": "UTC"}, format="json").json()
    asked = {"from": "2026-06-15T08:00:00Z", "until": "2026-06-15T10:00:00Z"}
    path = f"/schedules/{made['id']}/backfill"
    first = api.post(path, asked, format="json")
    assert first.status_code == 200, first.content
    assert [s["scheduled_for"] for s in first.json()["started"]] == ["2026-06-15T08:00:00Z", "2026-06-15T09:00:00Z"]
    again = api.post(path, asked, format="json").json()
    assert again == {"started": [], "already_there": first.json()["started"]}
    assert api.get(f"/executions/{again['already_there'][0]['execution_id']}").status_code == 200


@pytest.mark.parametrize(
    ("since", "until", "pointer"),
    [
        ("2026-06-15T10:00:00Z", "2026-06-15T10:00:00Z", "/until"),
        ("2026-06-15T10:00:00Z", "2026-06-15T09:00:00Z", "/until"),
        ("2026-06-15T10:00:00Z", "2027-06-15T09:00:00Z", "/until"),
        ("1969-06-15T10:00:00Z", "2026-06-15T09:00:00Z", "/from"),
        ("0001-01-01T00:00:00+14:00", "2026-06-15T09:00:00Z", "/from"),
        ("2026-06-15T10:00:00Z", "9999-12-31T23:59:59-14:00", "/until"),
        ("yesterday", "2026-06-15T10:00:00Z", "/from"),
        (None, "2026-06-15T10:00:00Z", "/from"),
        ({}, 7, "/from"),
        ("1970-01-01T00:00:00Z", "2026-06-15T09:00:00Z", "/until"),
    ],
)
def test_a_time_that_cannot_be_filled_in_is_400(api, body, since, until, pointer):
    made = api.post("/schedules", {**body, "cron": "* * * * *"}, format="json").json()
    answer = api.post(f"/schedules/{made['id']}/backfill", {"from": since, "until": until}, format="json")
    assert answer.status_code == 400
    assert pointer in {error["pointer"] for error in answer.json()["errors"]}
    assert not Execution.objects.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"cron": "0 0 30 2 *"},
        {"cron": "* " * 300},
        {"cron": ["*"]},
        {"cron": "\u0000 * * * *"},
        {"cron": "\ud800 * * * *"},
        {"cron": None},
        {"timezone": "../../etc/passwd"},
        {"timezone": "Europe"},
        {"timezone": "x" * 100},
        {"name": ""},
        {"name": "n" * 101},
        {"priority": 10**30},
        {"priority": "high"},
        {"catch_up": "some"},
        {"overlap": 1},
        {"paused": "perhaps"},
        {"inputs": []},
        {"inputs": {"a": "\u0000"}},
        {"inputs": {"unknown": 1}},
        {"owner": "admin"},
        {"next_at": "2026-01-01T00:00:00Z"},
        {"workflow_id": ["x"]},
    ],
    ids=repr,
)
def test_hostile_bodies_are_400_and_save_nothing(api, body, change):
    answer = api.post("/schedules", json.dumps({**body, **change}), content_type="application/json")
    assert answer.status_code == 400, answer.content
    assert not Schedule.objects.exists()


def test_hostile_nesting_is_400(api, body):
    deep = json.dumps({**body, "inputs": {"a": 0}}).replace('{"a": 0}', '{"a": ' + "[" * 5000 + "]" * 5000 + "}")
    assert api.post("/schedules", deep, content_type="application/json").status_code == 400
    assert api.post("/schedules", "[]", content_type="application/json").status_code == 400
    assert api.get("/schedules/not-an-id").status_code == 404


# --- who may --------------------------------------------------------------------------------------------------------

CHANGES = [("put", ""), ("delete", ""), ("post", "/pause"), ("post", "/resume"), ("post", "/backfill")]


def change(client, schedule, method, path):
    bodies = {"": {"name": "hourly", "cron": "@daily"}, "/backfill": {"from": NOON - 3 * HOUR, "until": NOON - HOUR}}
    return getattr(client, method)(f"/schedules/{schedule.pk}{path}", bodies.get(path, {}), format="json")


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize(
    ("role", "expected"), [(None, 404), ("guest", 403), ("user", 403), ("agent", 403), ("system", 200), ("admin", 200)]
)
def test_the_schedules_of_others_are_changed_with_system_update(as_user, make_schedule, method, path, role, expected):
    answer = change(as_user(role), make_schedule(), method, path)
    assert answer.status_code == (204 if expected == 200 and method == "delete" else expected), answer.content


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_its_owner_changes_it_as_long_as_he_may_execute_the_workflow(
    as_user, make_user, make_schedule, workflow, method, path
):
    friend = make_user("user")
    schedule = make_schedule(by=friend)
    assert change(as_user(friend), schedule, method, path).status_code in (200, 204)
    other = make_schedule(name="other", by=friend)
    friend.roles.set([Role.objects.get(name="guest")])
    reader = as_user(User.objects.get(pk=friend.pk))
    assert change(reader, other, method, path).status_code == 403


@pytest.mark.parametrize(
    ("role", "expected"), [(None, 404), ("guest", 403), ("user", 201), ("agent", 201), ("system", 201), ("admin", 201)]
)
def test_who_may_execute_a_workflow_may_schedule_it(as_user, body, clock, role, expected):
    assert as_user(role).post("/schedules", body, format="json").status_code == expected


def test_a_grant_opens_the_schedules_of_one_workflow_and_of_no_other(
    as_user, make_schedule, make_workflow, workflow, body
):
    shown, hidden = make_schedule(), make_schedule(on=make_workflow([noop("a")]))
    stranger = as_user()
    assert stranger.get("/schedules").json()["results"] == []
    assign_perm("workflow:read", stranger.user, workflow)
    assert [s["id"] for s in stranger.get("/schedules").json()["results"]] == [str(shown.pk)]
    assert stranger.post("/schedules", body, format="json").status_code == 403
    assign_perm("workflow:execute", stranger.user, workflow)
    assert stranger.post("/schedules", body, format="json").status_code == 201
    assert change(stranger, shown, "post", "/pause").status_code == 403
    for method, path in [*CHANGES, ("get", "")]:
        assert change(stranger, hidden, method, path).status_code == 404


def test_a_foreign_schedule_and_a_foreign_workflow_answer_as_what_never_was(as_user, make_schedule, body):
    schedule, stranger = make_schedule(), as_user()

    def said(answer):
        return answer.status_code, {key: value for key, value in answer.json().items() if key != "request_id"}

    never = "00000000-0000-7000-8000-000000000000"
    assert said(stranger.get(f"/schedules/{schedule.pk}")) == said(stranger.get(f"/schedules/{never}"))
    post = [stranger.post("/schedules", {**body, "workflow_id": w}, format="json") for w in (body["workflow_id"], "no")]
    assert said(post[0]) == said(post[1])
    assert post[0].status_code == 404


def test_without_an_account_there_is_nothing(make_schedule):
    schedule = make_schedule()
    for method, path in [*CHANGES, ("get", "")]:
        assert change(APIClient(), schedule, method, path).status_code == 401
    assert APIClient().post("/schedules/preview", {"cron": "@daily"}, format="json").status_code == 401


def test_the_databases_clock_is_the_one_that_counts(workflow, owner):
    schedule = schedules.create(workflow, Wanted(name="often", cron="* * * * *"), by=owner)
    due = (database_now() - timedelta(seconds=1)).replace(microsecond=0)
    Schedule.objects.filter(pk=schedule.pk).update(next_at=due)
    assert fire_due() > database_now()
    assert schedule.executions.get().scheduled_for == due
