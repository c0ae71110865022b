"""What runs container steps here, and whether it can: the answer of `/monitoring/dagger/status`."""

from apps.executors.container import Status, status
from apps.workflows.selectors.performing import executor_options


def engine() -> Status:
    """The state of the engine, asked now; blocks for some seconds where it hangs."""
    return status(executor_options())
