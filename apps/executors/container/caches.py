"""Cache volumes of containers, which the engine keeps: found by their labels, and removed where nobody uses them."""

import logging
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass

from apps.executors.container.labels import INSTALLATION, WORKFLOW
from apps.executors.options import Options

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A cache of this installation: what the engine calls it, and the id of the workflow that it was made for."""

    name: str
    workflow: str


def found(options: Options) -> list[Found]:
    """Every cache of this installation on this engine.

    None where Docker is not what runs containers; and none where its API does not answer now.
    """
    if options.container_runtime != "docker" or not options.installation:
        return []
    from docker.errors import DockerException
    from requests import RequestException

    from apps.executors.container.docker import connect

    try:
        with closing(connect(options.docker_host)) as client:
            listed = client.volumes(filters={"label": [f"{INSTALLATION}={options.installation}"]})["Volumes"] or []
    except (DockerException, RequestException) as error:
        logger.info("caches that nobody uses cannot be looked for now: %s", type(error).__name__)
        return []
    caches = []
    for each in listed:
        labels = each.get("Labels") or {}
        if labels.get(INSTALLATION) == options.installation and labels.get(WORKFLOW):
            caches.append(Found(name=each["Name"], workflow=labels[WORKFLOW]))
    return caches


def remove(options: Options, caches: Iterable[Found]) -> int:
    """Remove them, but for those that a container uses; gives how many."""
    from docker.errors import APIError

    from apps.executors.container.docker import connect

    count = 0
    with closing(connect(options.docker_host)) as client:
        for cache in caches:
            try:
                client.remove_volume(cache.name)  # without force: the engine refuses where a container has it
            except APIError as error:
                if error.status_code not in (404, 409):
                    logger.warning("the cache %s could not be removed: %s", cache.name, error.explanation)
                continue
            count += 1
    return count
