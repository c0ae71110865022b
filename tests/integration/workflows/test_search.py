"""Lists by tag and by words: what is asked for, and nothing that only looks like it."""

import pytest

from apps.workflows.models import Workflow
from apps.workflows.services import executions, workflows
from tests.integration.conftest import noop

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(as_user):
    return as_user("admin")


def make(api, name, *tags, description=""):
    """A workflow with one execution. Tags that a definition may not have are put into the row."""
    plain = [tag for tag in tags if tag.isascii() and tag.isalnum()]
    data = {"name": name, "tags": plain, "description": description, "steps": [noop("a")]}
    workflow = workflows.create(data, by=api.user)
    Workflow.objects.filter(pk=workflow.pk).update(tags=list(tags))
    executions.start(workflow, by=api.user)
    return workflow.slug


def by(api, **query):
    """The ids of the workflows and, of the executions, those of their workflows."""
    found = api.get("/workflows", query).json()["results"]
    ran = api.get("/executions", query).json()["results"]
    return sorted(one["id"] for one in found), sorted(one["workflow_id"] for one in ran)


TAGS = [
    "fin",
    "finance",
    "Fin",
    "a b",
    "über",
    "größe",
    "日本",
    '"',
    "\\",
    'x", "y',
    "x",
    "y",
    "100%",
    "1_0",
    "110",
    "null",
    "1",
]


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_is_found_exactly(api, tag):
    for number, one in enumerate(TAGS):
        make(api, f"w{number}", one, "other")
    wanted = f"w{TAGS.index(tag)}"
    assert by(api, tag=tag) == ([wanted], [wanted])


@pytest.mark.parametrize("tag", ["finan", "FIN", "%", "_", "other,", '["fin"]', "uber", "'", "') OR 1=1 --"])
def test_what_is_no_tag_finds_nothing(api, tag):
    make(api, "first", "fin", "finance", "über", "other")
    assert by(api, tag=tag) == ([], [])


def test_one_of_several_tags_is_enough(api):
    make(api, "first", "a", "b")
    make(api, "second", "b")
    assert by(api, tag="b") == (["first", "second"], ["first", "second"])
    assert by(api, tag="b", search="fir") == (["first"], ["first"])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("report", ["daily-report", "report-100"]),
        ("REPORT", ["daily-report", "report-100"]),
        ("y-r", ["daily-report"]),
        ("100%", ["report-100"]),
        ("%", ["report-100"]),
        ("a_b", ["a_b"]),
        ("_", ["a_b"]),
        ("\\", []),
        ("d%t", []),
    ],
)
def test_a_search_takes_every_character_for_itself(api, text, wanted):
    make(api, "Daily report")
    make(api, "Report 100%")
    make(api, "a_b")
    make(api, "axb")
    assert by(api, search=text) == (wanted, wanted)


def test_workflows_are_found_by_their_description_too(api):
    make(api, "first", description="what the bank sent")
    assert [one["id"] for one in api.get("/workflows?search=bank").json()["results"]] == ["first"]


@pytest.mark.parametrize("path", ["/workflows", "/executions"])
@pytest.mark.parametrize("query", [{"search": "x" * 60_000}, {"tag": "x" * 60_000}, {"search": "a\0b"}, {"tag": "\0"}])
def test_hostile_words_are_a_400(api, path, query):
    assert api.get(path, query).status_code == 400
    assert api.get(f"{path}?search=%ff%fe&tag=%ed%a0%80").status_code == 200


def test_a_workflow_is_read_as_a_file(api):
    make(api, "first")
    answer = api.get("/workflows/first", headers={"Accept": "application/yaml"})
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/yaml; charset=utf-8")
    assert answer.content.decode().startswith("name: first\n")
    again = api.put("/workflows/first", answer.content, content_type="application/yaml")
    assert (again.status_code, again.json()["version"]) == (200, 1)
    assert api.get("/workflows/first").json()["definition"]["name"] == "first"
    missing = api.get("/workflows/none", headers={"Accept": "application/yaml"})
    assert (missing.status_code, missing["Content-Type"]) == (404, "application/problem+json")
    assert api.get("/workflows", headers={"Accept": "application/yaml"}).status_code == 406
