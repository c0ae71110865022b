"""Rows, their constraints, and the querysets that gate them by permission."""

from apps.workflows.models.executions import Event, Execution, LogChunk, Task
from apps.workflows.models.performers import Performer
from apps.workflows.models.requests import IdempotencyKey
from apps.workflows.models.workflows import (
    Workflow,
    WorkflowGroupPermission,
    WorkflowUserPermission,
    WorkflowVersion,
)

__all__ = [
    "Event",
    "Execution",
    "IdempotencyKey",
    "LogChunk",
    "Performer",
    "Task",
    "Workflow",
    "WorkflowGroupPermission",
    "WorkflowUserPermission",
    "WorkflowVersion",
]
