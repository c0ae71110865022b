"""Cron expressions in time zones: exact moments over both DST changes of 2026, and what is refused."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.core.errors import Invalid
from apps.workflows.definition import cron

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def times(expression, zone, after, count):
    return [f"{moment:%m-%dT%H:%M}" for moment in cron.next_times(expression, zone, at(after), count)]


# Berlin: 02:00 CET becomes 03:00 CEST on 29 March, 03:00 CEST becomes 02:00 CET on 25 October, both at 01:00 UTC.
# New York: 02:00 EST becomes 03:00 EDT on 8 March (07:00 UTC), 02:00 EDT becomes 01:00 EST on 1 November (06:00 UTC).


@pytest.mark.parametrize(
    ("expression", "zone", "after", "expected"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00", ["03-28T01:30", "03-29T01:00", "03-30T00:30"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-23T12:00", ["10-24T00:30", "10-25T00:30", "10-26T01:30"]),
        ("30 2 * * *", "America/New_York", "2026-03-06T12:00", ["03-07T07:30", "03-08T07:00", "03-09T06:30"]),
        ("30 2 * * *", "America/New_York", "2026-10-30T12:00", ["10-31T06:30", "11-01T07:30", "11-02T07:30"]),
        ("30 1 * * *", "America/New_York", "2026-10-30T12:00", ["10-31T05:30", "11-01T05:30", "11-02T06:30"]),
    ],
    ids=["berlin-missing", "berlin-twice", "new-york-missing", "new-york-unique", "new-york-twice"],
)
def test_a_time_of_day_comes_once_on_each_day(expression, zone, after, expected):
    assert times(expression, zone, after, 3) == expected


@pytest.mark.parametrize(
    ("zone", "after", "expected"),
    [
        ("Europe/Berlin", "2026-03-28T22:30", ["03-28T23:00", "03-29T00:00", "03-29T01:00", "03-29T02:00"]),
        ("Europe/Berlin", "2026-10-24T22:30", ["10-24T23:00", "10-25T00:00", "10-25T01:00", "10-25T02:00"]),
        ("America/New_York", "2026-03-08T04:30", ["03-08T05:00", "03-08T06:00", "03-08T07:00", "03-08T08:00"]),
        ("America/New_York", "2026-11-01T03:30", ["11-01T04:00", "11-01T05:00", "11-01T06:00", "11-01T07:00"]),
    ],
)
@pytest.mark.parametrize("expression", ["0 * * * *", "@hourly", "0 */1 * * *"])
def test_an_hourly_one_keeps_its_distance_over_both_changes(expression, zone, after, expected):
    assert times(expression, zone, after, 4) == expected


def test_in_the_second_of_two_equal_hours_what_came_in_the_first_is_over():
    """At 02:10 CET, 01:10 UTC, the 02:30 of that day has been: it was 02:30 CEST, 00:30 UTC."""
    assert times("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10", 1) == ["10-26T01:30"]


def test_a_missing_hour_is_not_started_twice():
    assert times("0,30 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00", 3) == [
        "03-29T01:00", "03-29T01:30", "03-30T00:00",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("@hourly", "01-15T13:00"),
        ("@daily", "01-16T00:00"),
        ("@weekly", "01-18T00:00"),
        ("@monthly", "02-01T00:00"),
        ("@yearly", "01-01T00:00"),
        ("@DAILY", "01-16T00:00"),
    ],
)
def test_words_stand_for_expressions(word, expected):
    assert times(word, "UTC", "2026-01-15T12:00", 1) == [expected]


def test_the_next_moment_is_later_than_the_time_given():
    assert times("0 12 * * *", "UTC", "2026-01-15T12:00", 1) == ["01-16T12:00"]
    assert times("0 12 * * *", "UTC", "2026-01-15T11:59:59.999999", 1) == ["01-15T12:00"]


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 */30 2 MON#5"])
def test_a_day_that_never_comes_is_refused(expression):
    (problem,) = cron.problems(expression, "UTC", NOW)
    assert (problem.pointer, problem.code) == ("/cron", "never")
    assert "no such day" in problem.message


def test_the_29th_of_february_comes():
    assert not cron.problems("0 0 29 2 *", "UTC", NOW)
    assert cron.next_times("0 0 29 2 *", "UTC", NOW, 1) == [datetime(2028, 2, 29, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("61 * * * *", "the minute `61`"),
        ("* 24 * * *", "the hour `24`"),
        ("* * 32 * *", "the day-of-month `32`"),
        ("* * * 13 *", "the month `13`"),
        ("* * * * 8", "the day-of-week `8`"),
        ("*/0 * * * *", "the minute `*/0`"),
        ("5-1 * * * *", "the minute `5-1`"),
        ("* * * *", "this one 4"),
        ("0 0 * * * *", "this one 6"),
        ("", "this one 0"),
        ("@reboot", "@hourly"),
        ("²  * * * *", "the minute `²`"),
        ("9" * 190 + " * * * *", "the minute `999"),
    ],
)
def test_a_bad_expression_is_told_by_its_field(expression, told):
    (problem,) = cron.problems(expression, "UTC", NOW)
    assert (problem.pointer, problem.code) == ("/cron", "bad_cron")
    assert told in problem.message
    with pytest.raises(Invalid) as refused:
        cron.next_times(expression, "UTC", NOW, 1)
    assert refused.value.problems == (problem,)


@pytest.mark.parametrize(
    ("zone", "suggested"),
    [
        ("Berlin", "`Europe/Berlin`"),
        ("europe/berlin", "`Europe/Berlin`"),
        ("Europe/Berln", "`Europe/Berlin`"),
        ("new york", "`America/New_York`"),
        ("utc", "`UTC`"),
    ],
)
def test_an_unknown_zone_is_told_with_a_suggestion(zone, suggested):
    (problem,) = cron.problems("* * * * *", zone, NOW)
    assert (problem.pointer, problem.code) == ("/timezone", "unknown_timezone")
    assert f"did you mean {suggested}?" in problem.message


@pytest.mark.parametrize("zone", ["", "localtime", "Factory", "../UTC", "/etc/localtime", "Europe", "+01:00", "\0"])
def test_what_is_no_zone_is_refused(zone):
    assert [problem.pointer for problem in cron.problems("* * * * *", zone, NOW)] == ["/timezone"]


def test_both_mistakes_are_told_at_once():
    assert {problem.pointer for problem in cron.problems("* *", "Mars", NOW)} == {"/cron", "/timezone"}


def test_the_last_times_are_the_tail_of_all_between():
    after, until = at("2026-03-01T00:00"), at("2026-04-02T00:30")
    for expression in ("30 2 * * *", "*/7 * * * *", "0 0 1 1 *", "* * 5 3 *"):
        everything = list(cron.times_between(expression, "Europe/Berlin", after, until))
        for count in (1, 10, 1000):
            assert cron.last_times(expression, "Europe/Berlin", after, until, count) == everything[-count:]


def test_ten_years_of_minutes_are_not_walked_through():
    """Five million of them would take minutes."""
    found = cron.last_times("* * * * *", "Europe/Berlin", NOW - timedelta(days=3650), NOW, 1000)
    assert (len(found), found[-1]) == (1000, NOW)


FIELDS = st.tuples(
    st.sampled_from(["*", "1", "*/7", "5-9", "0,59", "3/20"]),
    st.sampled_from(["*", "2", "*/2", "0", "1-3"]),
    st.sampled_from(["*", "L", "LW", "31", "*/31", "30", "29", "1,L"]),
    st.sampled_from(["*", "2", "FEB", "4,6", "*/3", "JAN-MAR"]),
    st.sampled_from(["*", "5L", "MON#5", "1#1", "MON", "*/7", "1-5", "7"]),
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Africa/Cairo", "Australia/Lord_Howe", "America/Havana"])


@settings(max_examples=200, deadline=None)
@given(fields=FIELDS, zone=ZONES, minutes=st.integers(0, 600_000))
def test_moments_rise_and_do_not_depend_on_where_one_begins(fields, zone, minutes):
    expression = " ".join(fields)
    if cron.problems(expression, zone, NOW):
        return
    after = NOW + timedelta(minutes=minutes)
    found = cron.next_times(expression, zone, after, 8)
    assert found == sorted(set(found))
    assert not found or found[0] > after
    for index, moment in enumerate(found[:-1]):
        assert cron.next_times(expression, zone, moment, 1) == [found[index + 1]]


@settings(max_examples=200, deadline=None)
@given(expression=st.text(max_size=200), zone=st.text(max_size=64))
def test_whatever_is_sent_is_answered_with_problems(expression, zone):
    assert cron.problems(expression, zone, NOW)
