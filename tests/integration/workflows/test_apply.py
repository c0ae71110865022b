"""`manage.py apply` and `manage.py export`: workflows as a directory of files."""

import io
import json

import pytest
from django.core.management import CommandError, call_command

from apps.accounts.models import User
from apps.workflows.engine.states import Status
from apps.workflows.models import Workflow, WorkflowVersion
from apps.workflows.services import executions, files, trackers, workflows
from apps.workflows.services.trackers import TrackerUpdate
from tests.integration.conftest import noop
from tests.integration.workflows.driver import drive

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(make_user):
    user = make_user("admin")
    User.objects.filter(pk=user.pk).update(username="admin")
    return User.objects.get(pk=user.pk)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "flows"


def put(directory, name, data):
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def simple(name, *steps, **values):
    return {"name": name, "steps": list(steps or (noop("a"),)), **values}


def say(command, *options):
    """(lines, problems, whether it ended well)."""
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command(command, *map(str, options), stdout=out, stderr=err)
    except CommandError as error:
        assert error.returncode == 1
        return out.getvalue().splitlines(), [*err.getvalue().splitlines(), str(error)], False
    return out.getvalue().splitlines(), err.getvalue().splitlines(), True


def apply(*options):
    lines, problems, well = say("apply", *options)
    assert well, problems
    return lines


def test_files_are_created_changed_and_left_alone(admin, directory):
    put(directory, "daily.yaml", "name: Daily\nsteps:\n- {id: a, python: builtin.noop}\n")
    put(directory, "deep/er/weekly.yml", "name: Weekly\nsteps:\n- {id: a, python: builtin.noop}\n")
    put(directory, "monthly.json", simple("Monthly"))
    put(directory, "readme.md", "not a workflow")
    put(directory, ".git/x.yaml", "not: a workflow")
    names = ["daily.yaml", "deep/er/weekly.yml", "monthly.json"]
    assert apply(directory) == [f"{name}: created" for name in names]
    assert apply(directory) == [f"{name}: unchanged" for name in names]
    put(directory, "daily.yaml", simple("Daily", noop("b")))
    assert apply(directory) == [f"{names[0]}: version 2", f"{names[1]}: unchanged", f"{names[2]}: unchanged"]
    put(directory, "daily.yaml", simple("Daily", noop("c")))
    assert apply(directory)[0] == "daily.yaml: version 3"
    assert set(Workflow.objects.values_list("slug", "owner__username")) == {
        ("daily", "admin"),
        ("weekly", "admin"),
        ("monthly", "admin"),
    }


def test_every_problem_of_every_file_is_told_and_nothing_changed(admin, directory):
    put(directory, "a-good.yaml", simple("Good"))
    put(directory, "b.yaml", simple("Bad", {"id": "x", "retrys": 1}, {"id": "x", "python": "builtin.nop"}))
    put(directory, "c.json", "{")
    put(directory, "d.yaml", "name: [unclosed")
    put(directory, "e.yaml", simple("update"))
    put(directory, "f.yaml", simple("Good"))
    (directory / "g.yaml").write_bytes(b"\xff\xfe\x00")
    put(directory, "h.yaml", "- 1\n")
    put(directory, "i.yaml", "x: " + "y" * 5_000_000)
    lines, problems, well = say("apply", directory, "--prune")
    assert (lines, well) == ([], False)
    told = {tuple(line.split(": ", 2)[:2]) for line in problems[:-1]}
    assert told >= {
        ("b.yaml", "/steps/0/retrys"), ("b.yaml", "/steps/1/id"), ("b.yaml", "/steps/1/python"), ("c.json", "/"),
        ("d.yaml", "/"), ("e.yaml", "/name"), ("f.yaml", "/name"), ("g.yaml", "/"), ("h.yaml", "/"), ("i.yaml", "/"),
    }  # fmt: skip
    assert not any(line.startswith("a-good.yaml") for line in problems)
    assert problems[-1].endswith("nothing was changed")
    assert not Workflow.objects.exists()


def test_a_problem_that_only_saving_finds_undoes_everything(admin, directory):
    trackers.update([TrackerUpdate(workflow_id="train", status=Status.IN_PROGRESS, percent=1)], by=admin)
    put(directory, "a.yaml", simple("Good"))
    put(directory, "b.yaml", simple("Train"))
    lines, problems, well = say("apply", directory)
    assert (lines, well) == ([], False)
    assert "b.yaml: /: the id `train` is that of a tracker" in problems[0]
    assert [row.slug for row in Workflow.objects.all()] == ["train"]


def test_a_dry_run_says_the_same_and_changes_nothing(admin, directory):
    put(directory, "a.yaml", simple("First"))
    put(directory, "b.yaml", simple("Second"))
    assert apply(directory, "--dry-run") == ["a.yaml: created", "b.yaml: created"]
    assert not Workflow.objects.exists()
    apply(directory)
    put(directory, "a.yaml", simple("First", noop("b")))
    (directory / "b.yaml").unlink()
    told = ["a.yaml: version 2", "second: deleted"]
    assert apply(directory, "--dry-run", "--prune") == told
    assert WorkflowVersion.objects.count() == 2
    assert apply(directory, "--prune") == told


def test_pruning_takes_only_what_came_from_this_directory(admin, directory, tmp_path):
    workflows.create(simple("By hand"), by=admin)
    put(tmp_path / "other", "o.yaml", simple("Other"))
    apply(tmp_path / "other")
    put(directory, "a.yaml", simple("First"))
    put(directory, "b.yaml", simple("Second"))
    apply(directory)
    (directory / "b.yaml").unlink()
    assert apply(directory) == ["a.yaml: unchanged"]
    assert apply(directory / ".." / "flows", "--prune") == ["a.yaml: unchanged", "second: deleted"]
    assert set(Workflow.objects.values_list("slug", flat=True)) == {"by-hand", "other", "first"}


def test_a_mark_of_ones_own_holds_from_checkout_to_checkout(admin, directory, tmp_path):
    put(directory, "a.yaml", simple("First"))
    put(directory, "b.yaml", simple("Second"))
    apply(directory, "--source", "team")
    put(tmp_path / "again", "a.yaml", simple("First"))
    assert apply(tmp_path / "again", "--source", "team", "--prune") == ["a.yaml: unchanged", "second: deleted"]


def test_pruning_is_refused_while_executions_run_and_then_nothing_is_changed(admin, directory):
    put(directory, "a.yaml", simple("First"))
    put(directory, "b.yaml", simple("Second"))
    apply(directory)
    executions.start(Workflow.objects.get(slug="second"), by=admin)
    (directory / "b.yaml").unlink()
    put(directory, "a.yaml", simple("First", noop("b")))
    _, problems, well = say("apply", directory, "--prune")
    assert not well
    assert "1 executions of `second` run" in problems[0]
    assert Workflow.objects.get(slug="first").version_number == 1
    drive()
    assert apply(directory, "--prune") == ["a.yaml: version 2", "second: deleted"]


def test_an_empty_directory_prunes_nothing(admin, directory):
    put(directory, "a.yaml", simple("First"))
    apply(directory)
    (directory / "a.yaml").unlink()
    _, problems, well = say("apply", directory, "--prune")
    assert not well
    assert "no workflow file" in problems[0]
    assert Workflow.objects.count() == 1


def test_what_was_made_by_hand_is_taken_over_by_its_file(admin, directory):
    workflows.create(simple("First"), by=admin)
    put(directory, "a.yaml", simple("First"))
    put(directory, "b.yaml", simple("Second"))
    assert apply(directory) == ["a.yaml: unchanged", "b.yaml: created"]
    (directory / "a.yaml").unlink()
    assert apply(directory, "--prune") == ["b.yaml: unchanged", "first: deleted"]


def test_the_order_of_files_is_no_matter(admin, directory):
    """A file may name a workflow that comes from another, also where that one no longer names it."""
    child = {"id": "c", "workflow": {"id": "b"}}
    put(directory, "1.yaml", simple("A", child))
    put(directory, "2.yaml", simple("B"))
    assert apply(directory) == ["1.yaml: created", "2.yaml: created"]
    put(directory, "0.yaml", simple("B", {"id": "c", "workflow": {"id": "a"}}))
    put(directory, "1.yaml", simple("A"))
    (directory / "2.yaml").unlink()
    assert apply(directory) == ["0.yaml: version 2", "1.yaml: version 2"]
    put(directory, "1.yaml", simple("A", child))
    lines, problems, well = say("apply", directory)
    assert (lines, well) == ([], False)
    assert problems[0].startswith("1.yaml: /steps/0/workflow/id: ")


def test_the_owner_is_chosen(admin, directory, make_user):
    someone = make_user("user")
    put(directory, "a.yaml", simple("First"))
    apply(directory, "--by", someone.username)
    assert Workflow.objects.get().owner == someone
    assert Workflow.objects.get().versions.get().created_by == someone
    put(directory, "a.yaml", simple("First", noop("b")))
    apply(directory)
    assert Workflow.objects.get().owner == someone


@pytest.mark.parametrize("options", [["nowhere"], [".", "--by", "nobody"], [".", "--source", "x" * 1001]])
def test_what_cannot_begin_says_why(admin, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    assert not say("apply", *options)[2]


def test_links_that_lead_nowhere_are_named(admin, directory):
    directory.mkdir()
    (directory / "gone.yaml").symlink_to(directory / "nothing")
    assert "gone.yaml: /: cannot be read" in say("apply", directory)[1][0]


# --- export -----------------------------------------------------------------------------------------------------------

SCRIPT = "import sys\nprint('0o17', sys.argv)\n"


def test_what_is_exported_is_applied_unchanged(admin, directory):
    first = simple("First", {"id": "a", "command": ["python", "-c", SCRIPT]}, description="über 1e5\n\n  x \n")
    workflows.create(first, by=admin)
    workflows.create(
        simple("Second", {"id": "a", "python": {"call": "builtin.echo", "with": {"0o17": ["1e5", 1.0, 1, True]}}}),
        by=admin,
    )
    workflows.create(simple("Third"), by=admin)
    trackers.update([TrackerUpdate(workflow_id="train", status=Status.IN_PROGRESS, percent=1)], by=admin)
    assert say("export", directory)[0] == [f"{name}.yaml: written" for name in ("first", "second", "third")]
    assert apply(directory) == [f"{name}.yaml: unchanged" for name in ("first", "second", "third")]
    assert WorkflowVersion.objects.filter(workflow__kind="workflow").count() == 3
    assert "- |\n    import sys" in (directory / "first.yaml").read_text()
    assert say("export", directory)[0][0] == "first.yaml: unchanged"


def test_only_those_that_are_named_are_exported(admin, directory):
    for name in ("First", "Second"):
        workflows.create(simple(name), by=admin)
    assert say("export", directory, "second")[0] == ["second.yaml: written"]
    assert [path.name for path in directory.iterdir()] == ["second.yaml"]
    _, problems, well = say("export", directory / "new", "second", "third")
    assert not well
    assert "third" in problems[0]
    assert not (directory / "new").exists()


def test_a_place_that_cannot_be_written_says_so(admin, tmp_path):
    (tmp_path / "file").write_text("")
    workflows.create(simple("First"), by=admin)
    assert not say("export", tmp_path / "file" / "below")[2]


def test_the_services_tell_what_became_of_each(admin, directory):
    put(directory, "a.yaml", simple("First"))
    (one,) = files.apply(directory, by=admin)
    assert (one.file, one.workflow, one.became) == ("a.yaml", "first", "created")
