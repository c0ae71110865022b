"""The labels of a container: whose it is, so that those whose worker died are found."""

from apps.executors.types import StepCall

PREFIX = "org.orchestration."
INSTALLATION = f"{PREFIX}installation"
TASK = f"{PREFIX}task"
ATTEMPT = f"{PREFIX}attempt"


def labels_of(call: StepCall, installation: str) -> dict[str, str]:
    """The labels of the container of this attempt."""
    return {
        INSTALLATION: installation,
        TASK: call.task_key,
        ATTEMPT: str(call.attempt),
        f"{PREFIX}workflow": call.workflow_id,
        f"{PREFIX}execution": call.execution_id,
        f"{PREFIX}step": call.step_id,
    }
