"""When schedules will start something. Reads only."""

from datetime import datetime

from apps.core.clock import database_now
from apps.core.errors import Invalid
from apps.workflows.definition import cron
from apps.workflows.models import Schedule

SHOWN = 5


def coming(schedule: Schedule) -> list[datetime]:
    """Its next five moments in UTC; none while it is paused or its time zone is unknown to this system."""
    if schedule.paused:
        return []
    try:
        return preview(schedule.cron, schedule.timezone)
    except Invalid:
        return []


def preview(expression: str, timezone: str) -> list[datetime]:
    """The next five moments of a cron expression, in UTC. Raises `Invalid` with every problem."""
    now = database_now()
    if problems := cron.problems(expression, timezone, now):
        raise Invalid("there are no such moments; `errors` lists why", code="invalid_schedule", problems=problems)
    return cron.next_times(expression, timezone, now, SHOWN)
