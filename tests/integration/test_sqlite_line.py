"""SQLite's writers wait in a line of ours: who stands in it goes first, and what comes meanwhile goes with him."""

import threading
import uuid
from contextlib import contextmanager, suppress

import pytest
from django.db import connection

from apps.core.sqlite.base import DatabaseWrapper
from apps.workers import ledger
from apps.workflows.engine.types import Completed
from apps.workflows.services.ledger import Report, Turn

pytestmark = pytest.mark.django_db

PATIENCE = 60.0


@pytest.fixture
def connect(tmp_path):
    """Connections to one file, whatever database the tests run on."""
    made = []

    def one():
        values = {**connection.settings_dict, "NAME": str(tmp_path / "db"), "OPTIONS": {}, "TIME_ZONE": None}
        made.append(DatabaseWrapper(values, f"line-{len(made)}"))
        return made[-1]

    yield one
    for each in made:
        each.inc_thread_sharing()
        each.close()


def writing(one, done):
    one.inc_thread_sharing()
    one.ensure_connection()
    one.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
    done.append("begun")
    one.commit()
    one.set_autocommit(True)
    one.close()


def test_who_stands_in_line_goes_first(connect):
    first, second, done = connect(), connect(), []
    with first.in_line():
        other = threading.Thread(target=writing, args=(second, done))
        other.start()
        other.join(0.3)
        assert not done, "it waits, although nothing has been begun yet"
        writing(first, done)  # which leaves the line at its commit
        other.join(PATIENCE)
    assert done == ["begun", "begun"]


@pytest.mark.parametrize("fails", [False, True])
def test_who_has_nothing_to_write_after_all_leaves(connect, fails):
    first, second, done = connect(), connect(), []
    with suppress(ValueError), first.in_line():
        if fails:
            raise ValueError
    other = threading.Thread(target=writing, args=(second, done))
    other.start()
    other.join(PATIENCE)
    assert done == ["begun"]


def test_what_is_reported_while_others_write_goes_with_the_same_turn(monkeypatch):
    stands, others_wrote, turns = threading.Event(), threading.Event(), []

    @contextmanager
    def in_line():
        stands.set()
        assert others_wrote.wait(PATIENCE)
        yield

    def turn(reports, _wanted):
        turns.append([report.task_id for report in reports])
        return Turn(answers=(None,) * len(reports))

    monkeypatch.setattr(ledger.sql, "in_line", in_line)
    monkeypatch.setattr(ledger, "turn", turn)
    for name in ("leave", "reap"):
        monkeypatch.setattr(ledger.leases, name, lambda *_: None)
    monkeypatch.setattr(ledger.leases, "next_moments", lambda: (None, None))
    monkeypatch.setattr(ledger.Ledger, "_beat", lambda _: None)
    settings = ledger.Settings(name="w", slots=4, lease_seconds=30.0)
    thread = ledger.Ledger(settings, on_claimed=lambda _: None, on_stop=lambda *_: None)
    thread._look = False
    ids = [uuid.uuid4() for _ in range(3)]
    reports = [Report(task_id=one, happening=Completed(step_id="s", fence=1, outputs={})) for one in ids]
    thread.report(reports[0])
    thread.start()
    assert stands.wait(PATIENCE)
    for report in reports[1:]:
        thread.report(report)
    others_wrote.set()
    thread.end()
    thread.join(PATIENCE)
    assert turns == [ids]
