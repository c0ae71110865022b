"""The executors as a description, and how they are asked for."""

import psutil
import pytest
from pydantic import BaseModel

from apps.executors import Executors, Options

BUILTINS = {f"builtin.{name}" for name in ("noop", "echo", "sleep", "fail", "fib", "progress")}


def test_every_kind_has_a_schema_and_listing_starts_nothing(options):
    before = set(psutil.Process().children())
    executors = Executors(options)
    configs = executors.configs()
    assert set(configs) == {"python", "process", "container", "http"}
    assert all(issubclass(config, BaseModel) for config in configs.values())
    executors.callables()
    assert not set(psutil.Process().children()) - before  # those of other tests may still be ending
    assert not list(options.work_dir.iterdir())


def test_an_executor_is_made_once(options):
    executors = Executors(options)
    assert executors.get("python") is executors.get("python")
    assert executors.get("python").kind == "python"


def test_a_kind_that_nobody_performs_is_named(options):
    with pytest.raises(Exception, match="telepathy"):
        Executors(options).get("telepathy")


def test_callables_are_the_built_in_ones_and_the_public_ones_of_modules(options):
    names = Executors(options).callables()
    assert names >= BUILTINS | {"crew_reports.total", "crew_reports.patient"}
    for name in ("crew_reports._private", "crew_reports.StepFailed", "crew_reports.Path"):
        assert name not in names
    assert not any(name.startswith(("crew_broken", "crew_missing")) for name in names)


def test_there_are_callables_without_modules(tmp_path):
    assert Executors(Options(process_steps="off", work_dir=tmp_path)).callables() >= BUILTINS


async def test_closing_what_never_ran_is_harmless(options):
    executors = Executors(options)
    await executors.close()
    await executors.close()


@pytest.mark.parametrize("kind", ["python", "process", "container", "http"])
def test_schemas_refuse_unknown_keys(options, kind):
    schema = Executors(options).configs()[kind].model_json_schema()
    assert schema["additionalProperties"] is False
