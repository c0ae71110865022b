"""Lists over very many rows: a page comes out of an index in its order, and costs the same however long the list is."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.workflows.selectors import relations
from apps.workflows.services import executions
from tests.integration.conftest import noop

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(as_user):
    return as_user("admin")


@pytest.fixture
def report(make_workflow, owner):
    workflow = make_workflow([noop("a"), noop("b", "a")], name="Report")
    executions.start(workflow, by=owner)
    return workflow


def asked(api, path):
    """The queries of one GET."""
    with CaptureQueriesContext(connection) as queries:
        assert api.get(path).status_code == 200
    return [query["sql"] for query in queries]


def plan(sql):
    """How the database goes about a query where reading everything is dear; it reads small tables whole otherwise."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            for way in ("seqscan", "bitmapscan"):
                cursor.execute(f"SET LOCAL enable_{way} = off")
        cursor.execute(f"EXPLAIN {'QUERY PLAN ' if connection.vendor == 'sqlite' else ''}{sql}")
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


@pytest.mark.parametrize(
    "path",
    [
        "/executions", "/executions?status=completed", "/executions?workflow_id=report", "/workflows/report/executions",
        "/tasks", "/tasks?status=completed",
    ],
)  # fmt: skip
def test_a_page_is_found_in_its_order_without_sorting(api, report, path):
    listing = [sql for sql in asked(api, path) if "ORDER BY" in sql and "LIMIT 51" in sql]
    assert len(listing) == 1
    way = plan(listing[0])
    assert "Sort" not in way, way
    assert "TEMP B-TREE" not in way, way
    assert "DISTINCT" not in listing[0]
    assert " JOIN " not in listing[0].partition(" WHERE ")[0]


@pytest.mark.parametrize("path", ["/executions", "/workflows/report/executions", "/tasks"])
def test_a_page_costs_the_same_however_long_it_is_and_reads_no_definition(api, report, owner, path):
    asked(api, path)  # what the caller may is read once
    before = asked(api, path)
    for _ in range(5):
        executions.start(report, by=owner)
    after = asked(api, path)
    assert len(after) == len(before) <= 12
    assert not [sql for sql in after if '"definition"' in sql]


@pytest.mark.parametrize("few", [0, relations.FEW])
def test_the_tasks_of_one_workflow_are_its_own_the_newest_first(api, make_workflow, report, owner, monkeypatch, few):
    monkeypatch.setattr(relations, "FEW", few)
    second = executions.start(report, by=owner)
    executions.start(make_workflow([noop("c")], name="Other"), by=owner)
    rows = api.get("/tasks?workflow_id=report").json()["results"]
    assert [row["step_id"] for row in rows] == ["b", "a", "b", "a"]
    assert {row["execution_id"] for row in rows[:2]} == {str(second.pk)}
    assert api.get("/tasks?workflow_id=report&status=failed").json()["results"] == []
    assert api.get("/tasks?workflow_id=nothing").json()["results"] == []
    assert len(api.get("/tasks?workflow_id=report&limit=3").json()["results"]) == 3


def test_many_tasks_of_one_workflow_are_not_sorted(api, report, monkeypatch):
    monkeypatch.setattr(relations, "FEW", 0)
    (listing,) = [sql for sql in asked(api, "/tasks?workflow_id=report") if "LIMIT 51" in sql]
    if connection.vendor == "postgresql":
        return  # it goes by its statistics, and sorts the four rows of a test
    way = plan(listing)
    assert "Sort" not in way, way
    assert "TEMP B-TREE" not in way, way
