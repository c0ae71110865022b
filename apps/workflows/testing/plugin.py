"""The pytest plugin: `pytest_plugins = ["apps.workflows.testing.plugin"]` gives tests the fixture `workflow`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apps.workflows.testing.harness import Definition, Harness


@pytest.fixture
def workflow(request: pytest.FixtureRequest) -> Callable[..., Harness]:
    """`workflow("report.yaml")` gives a harness of that file, looked for beside the test and at pytest's root.

    YAML text, a `Path` and data are taken too; keywords are those of `Harness`.
    """
    folders = (request.path.parent, request.config.rootpath, Path())

    def make(definition: Definition, **options: Any) -> Harness:
        return Harness(definition, **{"folders": folders, **options})

    return make
