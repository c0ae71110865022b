"""Subscriptions are told to the audit log."""

import asyncio

import pytest
from asgiref.sync import sync_to_async

from apps.accounts.audit.models import AuditEntry
from tests.integration.progress.conftest import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)


def told():
    rows = AuditEntry.objects.filter(action="progress.subscribe").order_by("seq")
    return [(row.actor_name, row.object_id) for row in rows]


async def test_a_subscription_is_told_once_a_minute(socket, reporter):
    await sync_to_async(reporter.report)("t", 10)
    for _ in range(2):
        one = socket("workflow_id=t", by=reporter)
        assert await one.open()
        await one.frame()
    everything = socket("", by=reporter)
    assert await everything.open()
    async with asyncio.timeout(PATIENCE):
        while len(await sync_to_async(told)()) < 2:
            await asyncio.sleep(0.05)
    assert await sync_to_async(told)() == [(reporter.user.username, "t"), (reporter.user.username, "*")]
