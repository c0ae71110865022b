"""What an engine keeps of this installation: listed by its label, and removed piece by piece."""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from apps.executors.container.labels import INSTALLATION
from apps.executors.options import Options

if TYPE_CHECKING:
    from docker import APIClient

logger = logging.getLogger(__name__)

Filters = dict[str, Any]


def of_installation(
    options: Options, ask: "Callable[[APIClient, Filters], Iterable[Mapping[str, Any]]]"
) -> list[tuple[Mapping[str, Any], Mapping[str, str]]]:
    """What `ask` lists, each with its labels, where they name this installation.

    None where Docker is not what runs containers; and none where its API does not answer now, which steps say loud
    enough.
    """
    if options.container_runtime != "docker" or not options.installation:
        return []
    from docker.errors import DockerException
    from requests import RequestException

    from apps.executors.container.docker import connect

    try:
        with closing(connect(options.docker_host)) as client:
            listed = ask(client, {"label": [f"{INSTALLATION}={options.installation}"]})
    except (DockerException, RequestException) as error:
        logger.info("what containers left behind cannot be looked for now: %s", type(error).__name__)
        return []
    pairs = [(each, each.get("Labels") or {}) for each in listed]
    return [(each, labels) for each, labels in pairs if labels.get(INSTALLATION) == options.installation]


def removed(options: Options, names: Iterable[str], remove: "Callable[[APIClient, str], object]") -> int:
    """Remove them, but for those that are gone or that the engine still needs; gives how many."""
    from docker.errors import APIError

    from apps.executors.container.docker import connect

    count = 0
    with closing(connect(options.docker_host)) as client:
        for name in names:
            try:
                remove(client, name)
            except APIError as error:
                if error.status_code not in (404, 409):  # gone, in use, or being removed by another worker
                    logger.warning(
                        "%s, which a container left behind, could not be removed: %s", name, error.explanation
                    )
                continue
            count += 1
    return count
