"""A40: what a migration may do, so that the code before it goes on over the database after it.

Migrations of the first release are where it begins; each later one is looked at. Until that release comes, whoever adds
a migration that no old code will ever meet names it in `FIRST_RELEASE`.
"""

import pytest
from django.db import migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.models import NOT_PROVIDED

FIRST_RELEASE = {
    "accounts": "0003_audit", "monitoring": "0001_silences_and_notices", "vault": "0002_blobs",
    "workflows": "0016_artifacts",
}  # fmt: skip
HARMLESS = (
    migrations.CreateModel, migrations.AddIndex, migrations.AlterModelOptions, migrations.AlterModelManagers,
    migrations.RemoveIndex, migrations.RemoveConstraint, migrations.RunPython,
)  # fmt: skip
"""What old code does not notice; data that `RunPython` writes is for its review."""


def hurts(operation):
    """Why the code before would fail over it; empty where it would not."""
    if isinstance(operation, HARMLESS):
        return ""
    if isinstance(operation, migrations.AddField):
        field = operation.field
        if field.null or field.db_default is not NOT_PROVIDED or isinstance(field, models.ManyToManyField):
            return ""
        return f"{operation.model_name}.{operation.name} is not null: old code writes rows without it; give db_default"
    if isinstance(operation, migrations.AlterField):
        return f"{operation.model_name}.{operation.name} is altered: add another column, move over, drop it a release later"  # noqa: E501
    return f"{type(operation).__name__}: old code still reads and writes what this takes away or narrows"


def tables(migration):
    """The tables that already stand and that a migration locks."""
    made = {one.name.lower() for one in migration.operations if isinstance(one, migrations.CreateModel)}
    names = {getattr(one, "model_name", "") for one in migration.operations}
    return {name.lower() for name in names if name} - made


def later():
    """Migrations of ours after the first release."""
    loader = MigrationLoader(None)
    for (app, name), migration in sorted(loader.disk_migrations.items()):
        first = FIRST_RELEASE.get(app)
        if first is not None and name > first:
            yield f"{app}.{name}", migration


def test_a40_no_later_migration_hurts_the_code_before_it():
    wrong = [f"{name}: {why}" for name, one in later() for operation in one.operations if (why := hurts(operation))]
    wrong += [f"{name} locks several tables in one transaction: a migration for each" for name, one in later()
              if one.atomic and len(tables(one)) > 1]  # fmt: skip
    assert not wrong, "\n".join(wrong)


def test_a40_what_the_first_release_has_is_there():
    known = MigrationLoader(None).disk_migrations
    assert set(FIRST_RELEASE.items()) <= set(known)


TEXT = {"max_length": 9}
GOOD = [
    migrations.AddField("task", "note", models.CharField(null=True, **TEXT)),
    migrations.AddField("task", "note", models.CharField(db_default="", **TEXT)),
    migrations.AddIndex("task", models.Index(fields=["id"], name="an_index")),
    migrations.CreateModel("New", fields=[("id", models.BigAutoField(primary_key=True))]),
]
BAD = [
    migrations.AddField("task", "note", models.CharField(default="", **TEXT)),  # Django takes the default away again
    migrations.RemoveField("task", "fence"),
    migrations.RenameField("task", "fence", "lease"),
    migrations.AlterField("task", "fence", models.CharField(**TEXT)),
    migrations.DeleteModel("Task"),
    migrations.AddConstraint("task", models.CheckConstraint(condition=models.Q(fence__gte=0), name="a_check")),
    migrations.RunSQL("DROP TABLE x"),
]


@pytest.mark.parametrize("operation", GOOD, ids=lambda one: type(one).__name__)
def test_a40_positive_control_what_old_code_does_not_notice(operation):
    assert not hurts(operation)


@pytest.mark.parametrize("operation", BAD, ids=lambda one: type(one).__name__)
def test_a40_what_hurts_old_code_is_told(operation):
    assert hurts(operation)
