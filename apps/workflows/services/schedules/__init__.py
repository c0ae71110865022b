"""Schedules: saved, paused, carried out when their moments come, and filled in for moments of the past."""

from apps.workflows.services.schedules.filling import MAX_MOMENTS, Backfilled, backfill
from apps.workflows.services.schedules.firing import CATCH_UP_AT_MOST, MISSED_AFTER, fire_due
from apps.workflows.services.schedules.saving import Wanted, create, delete, pause, resume, update

__all__ = [
    "CATCH_UP_AT_MOST",
    "MAX_MOMENTS",
    "MISSED_AFTER",
    "Backfilled",
    "Wanted",
    "backfill",
    "create",
    "delete",
    "fire_due",
    "pause",
    "resume",
    "update",
]
