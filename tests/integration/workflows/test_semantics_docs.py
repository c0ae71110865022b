"""Every example of docs/semantics.md runs to its end on a real database, and the tests that its table names exist."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from apps.core.clock import database_now
from apps.workflows.definition.loader import load
from apps.workflows.models import Execution, Task
from apps.workflows.selectors.invariants import verdict
from apps.workflows.services import executions, follow, leases, workflows
from apps.workflows.services.ledger import lanes, turn, unit_of
from tests.integration.workflows.driver import check_rows, done, wanted

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "semantics.md").read_text()
EXAMPLES = [load(text, "yaml") for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
TABLE = PAGE.partition("## Where it is tested")[2]


def help_along(execution):
    """What the world outside would do: time passes, a signal comes, somebody approves."""
    from apps.workflows.engine.types import Decided
    from apps.workflows.services.stopping import write

    waiting = Task.objects.filter(execution=execution, status="waiting")
    waiting.filter(waiting_for="timer").update(due_at=database_now() - timedelta(seconds=1))
    leases.wake(database_now())
    for task in waiting.filter(waiting_for__startswith="signal:"):
        executions.signal(execution, task.waiting_for.partition(":")[2], {}, by=None)
    for task in waiting.filter(waiting_for="approval"):
        with unit_of([execution.pk]) as unit:
            write(unit, unit.happen(execution.pk, Decided(step_id=task.step_id, approved=True, by="somebody")))


@pytest.mark.parametrize("definition", EXAMPLES, ids=[example["name"] for example in EXAMPLES])
def test_the_example_runs_to_its_end(owner, definition):
    lanes.forget()
    if definition["name"] == "Outer":
        workflows.create(next(one for one in EXAMPLES if one["name"] == "Items"), by=owner)
    execution = executions.start(workflows.create(definition, by=owner), by=owner)
    for _ in range(20):
        able = wanted(16, labels={"gpu": 1, "region": "eu"})
        turn([done(task, **task.config.get("with", {})) for task in turn([], able).claimed])
        help_along(execution)
        follow.sweep()
        execution.refresh_from_db()
        if execution.finished_at:
            break
    check_rows(execution)
    assert execution.status == "completed", execution.error
    assert not verdict().violations
    if definition["name"] == "Items":
        assert execution.outputs == {"all": [{"region": "north"}, {"region": "south"}]}
    assert not Execution.objects.filter(finished_at=None).exists()


def test_the_tests_that_the_table_names_are_there():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TABLE)
    assert len(named) > 30
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / file).read_text()]
    assert not missing
