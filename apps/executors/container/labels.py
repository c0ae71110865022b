"""The labels of a container: whose it is, so that those whose worker died are found. And whose a cache is."""

from collections.abc import Mapping

from apps.executors.types import StepCall

PREFIX = "org.orchestration."
INSTALLATION = f"{PREFIX}installation"
TASK = f"{PREFIX}task"
ATTEMPT = f"{PREFIX}attempt"
WORKFLOW = f"{PREFIX}workflow"


def labels_of(call: StepCall, installation: str) -> dict[str, str]:
    """The labels of the container of this attempt."""
    return {
        INSTALLATION: installation,
        TASK: call.task_key,
        ATTEMPT: str(call.attempt),
        WORKFLOW: call.workflow_id,
        f"{PREFIX}execution": call.execution_id,
        f"{PREFIX}step": call.step_id,
    }


def labels_of_cache(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels of a cache of the container with `labels`: whose it is, whichever attempt makes it."""
    return {name: labels[name] for name in (INSTALLATION, WORKFLOW) if name in labels}


def cache_of(labels: Mapping[str, str], name: str) -> str:
    """What an engine calls a cache of this name: no two workflows and installations ever mean the same.

    The id of a workflow has no dot, so that it ends with the first.
    """
    return f"orchestration-{labels.get(INSTALLATION, '')[:12]}-{labels.get(WORKFLOW, '')}.{name}"
