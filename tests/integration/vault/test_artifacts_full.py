"""A39: what a step leaves finds the disk of the artifacts full: the step says so, nothing is spoilt, and it goes on."""

import pytest

from apps.workflows.models import Artifact
from apps.workflows.services import executions
from tests.integration.vault.test_artifacts import perform
from tests.integration.workflows.driver import claim

pytestmark = pytest.mark.django_db(transaction=True)


def test_a39_a_full_disk_fails_the_step_by_name_and_leaves_nothing(small_disk, make_workflow, owner):
    def leave(size):
        script = f'head -c {size} /dev/urandom > "$ORCHESTRATION_ARTIFACTS/file"'
        executions.start(make_workflow([{"id": "a", "command": ["sh", "-c", script]}]), by=owner)
        return perform(claim()["a"])

    assert leave(400_000).error is None, "the control"
    error = leave(2_000_000).error
    assert (error.type, "disk of the artifacts is full" in error.message) == ("output", True)
    assert Artifact.objects.count() == 1
    assert [path.stat().st_size for path in small_disk.rglob("*") if path.is_file()] == [400_000]
    assert leave(300_000).error is None
