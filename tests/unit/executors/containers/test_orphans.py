"""The sweep where there is nothing to ask."""

import pytest

from apps.executors import Options
from apps.executors.container import caches, orphans


@pytest.mark.parametrize("runtime", ["docker", "dagger", "none"])
def test_an_engine_that_is_not_there_is_asked_again_later(runtime, tmp_path):
    options = Options(
        work_dir=tmp_path, container_runtime=runtime, docker_host=f"unix://{tmp_path}/none.sock", installation="x"
    )
    assert orphans.found(options) == []
    assert caches.found(options) == []
