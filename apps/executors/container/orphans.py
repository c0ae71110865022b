"""Containers that nobody waits for any more, their worker having died: found by their labels, and removed."""

import logging
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass

from apps.executors.container.labels import ATTEMPT, INSTALLATION, TASK
from apps.executors.options import Options

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A container of this installation: its id, and the attempt that it was made for."""

    id: str
    task_key: str
    attempt: int


def found(options: Options) -> list[Found]:
    """Every container of this installation, on whichever worker's behalf.

    None where Docker is not what runs them; and none where its API does not answer now, which steps say loud enough.
    """
    if options.container_runtime != "docker" or not options.installation:
        return []
    from docker.errors import DockerException
    from requests import RequestException

    from apps.executors.container.docker import connect

    try:
        with closing(connect(options.docker_host)) as client:
            listed = client.containers(all=True, filters={"label": [f"{INSTALLATION}={options.installation}"]})
    except (DockerException, RequestException) as error:
        logger.info("the containers of workers that died cannot be looked for now: %s", type(error).__name__)
        return []
    boxes = []
    for each in listed:
        labels = each.get("Labels") or {}
        attempt = labels.get(ATTEMPT, "")
        if labels.get(INSTALLATION) == options.installation and attempt.isdecimal():
            boxes.append(Found(id=each["Id"], task_key=labels.get(TASK, ""), attempt=int(attempt)))
    return boxes


def remove(options: Options, boxes: Iterable[Found]) -> int:
    """Kill and remove them; gives how many."""
    from docker.errors import APIError

    from apps.executors.container.docker import connect

    count = 0
    with closing(connect(options.docker_host)) as client:
        for box in boxes:
            try:
                client.remove_container(box.id, force=True, v=True)
            except APIError as error:
                if error.status_code not in (404, 409):  # gone, or being removed by another worker
                    logger.warning("an orphaned container could not be removed: %s", error.explanation)
                continue
            count += 1
    return count
