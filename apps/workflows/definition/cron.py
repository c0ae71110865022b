"""Cron expressions in a time zone: read, checked, and the moments they mean. Pure: the time is given, never asked.

Five fields, or a word such as `@daily`. On the days when clocks change it does as Debian's cron: a time of day that is
left out comes right after the gap, one that comes twice counts once, and what runs by `*` keeps its real distance.
"""

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from apps.core.errors import Invalid, Problem
from apps.workflows.definition.suggestions import Suggester

WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
_FIELDS = {
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, or L for the last",
    "month": "1-12, or JAN-DEC",
    "day-of-week": "0-7, or SUN-SAT",
}
# Files among the system's time zones that are no zones: the host's own, and a mark for "not set".
_NO_ZONES = {"localtime", "Factory"}
_GROWS_BY = 4


def problems(cron: str, zone: str, now: datetime) -> list[Problem]:
    """What is wrong with `/cron` and `/timezone`; to have no moment in the 50 years from `now` is wrong too."""
    found = [problem for problem in (_cron_problem(cron), _zone_problem(zone)) if problem]
    if not found and next(_moments(cron, zone, now), None) is None:
        found.append(Problem(pointer="/cron", code="never", message=_never(cron)))
    return found


def next_times(cron: str, zone: str, after: datetime, count: int) -> list[datetime]:
    """The first `count` moments later than `after`, in UTC; fewer where 50 years have no more.

    Raises `Invalid`, naming `/cron` or `/timezone`.
    """
    return list(islice(_checked(cron, zone, after), count))


def times_between(cron: str, zone: str, after: datetime, until: datetime) -> Iterator[datetime]:
    """The moments later than `after` and not later than `until`, in UTC and in order. Raises `Invalid`."""
    for moment in _checked(cron, zone, after):
        if moment > until:
            return
        yield moment


def last_times(cron: str, zone: str, after: datetime, until: datetime, count: int) -> list[datetime]:
    """The last `count` of `times_between`, oldest first, without walking through all before them. Raises `Invalid`."""
    span = timedelta(minutes=count)  # no cron has more than one moment a minute
    while True:
        start = max(after, until - span)
        found = deque(times_between(cron, zone, start, until), maxlen=count)
        if len(found) == count or start == after:
            return list(found)
        span *= _GROWS_BY


def zone_of(name: str) -> tzinfo:
    """The time zone of this IANA name. Raises `Invalid` (`/timezone`) with a suggestion."""
    if problem := _zone_problem(name):
        raise _invalid([problem])
    return UTC if name == "UTC" else ZoneInfo(name)


def _checked(cron: str, zone: str, after: datetime) -> Iterator[datetime]:
    if found := [problem for problem in (_cron_problem(cron), _zone_problem(zone)) if problem]:
        raise _invalid(found)
    return _moments(cron, zone, after)


def _moments(cron: str, zone: str, after: datetime) -> Iterator[datetime]:
    for local in CronSim(_five_fields(cron), after.astimezone(zone_of(zone))):
        moment = local.astimezone(UTC)
        # In the second of two equal hours a time of day seems to lie ahead that has passed in the first.
        if moment > after:
            yield moment


def _five_fields(cron: str) -> str:
    text = " ".join(cron.split())
    return WORDS.get(text.lower(), text)


def _cron_problem(cron: str) -> Problem | None:
    text = _five_fields(cron)
    fields = text.split()
    if text.startswith("@"):
        return _bad_cron(f"`{text[:50]}` is not known; there are {', '.join(WORDS)}")
    if len(fields) != len(_FIELDS):
        return _bad_cron(f"a cron expression has five fields ({', '.join(_FIELDS)}), this one {len(fields)}")
    try:
        _read(text)
    except CronSimError as error:
        name = str(error).removeprefix("Bad ")
        if name == "day-of-month" and _reads(" ".join((*fields[:3], "*", fields[4]))):
            return Problem(pointer="/cron", code="never", message=_never(cron))
        given = fields[list(_FIELDS).index(name)]
        forms = "also `*`, lists `1,2`, ranges `1-5`, steps `*/2`"
        return _bad_cron(f"the {name} `{given[:50]}` cannot be read: {_FIELDS[name]}; {forms}")
    return None


def _read(text: str) -> CronSim:
    return CronSim(text, datetime.min.replace(tzinfo=UTC))


def _reads(text: str) -> bool:
    try:
        _read(text)
    except CronSimError:
        return False
    return True


def _never(cron: str) -> str:
    return f"`{cron[:100]}` never comes: there is no such day; change the day or the month"


def _bad_cron(message: str) -> Problem:
    return Problem(pointer="/cron", code="bad_cron", message=message)


@cache
def _zones() -> dict[str, str]:
    """The known zones by name, and for suggestions by small letters and by their last part (`berlin`)."""
    known = sorted(available_timezones() - _NO_ZONES | {"UTC"})
    ways = {name.rpartition("/")[2].lower(): name for name in known} | {name.lower(): name for name in known}
    return ways | {name: name for name in known}


def _zone_problem(name: str) -> Problem | None:
    zones = _zones()
    if zones.get(name) == name:
        return None
    meant = zones.get(name.strip().replace(" ", "_").lower())
    hint = f"; did you mean `{meant}`?" if meant else Suggester()(name, sorted(set(zones.values())))
    message = f"`{name[:64]}` is no IANA time zone such as `Europe/Berlin` or `UTC`{hint}"
    return Problem(pointer="/timezone", code="unknown_timezone", message=message)


def _invalid(found: list[Problem]) -> Invalid:
    return Invalid("; ".join(problem.message for problem in found), code="invalid_schedule", problems=found)
