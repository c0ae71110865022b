"""Rows, their constraints, and the querysets that gate them by permission."""

from apps.workflows.models.artifacts import Artifact
from apps.workflows.models.executions import Event, Execution, LogChunk, Task, Trigger
from apps.workflows.models.limits import CachedResult, RateLimit
from apps.workflows.models.notifications import Notification, Receiver
from apps.workflows.models.performers import Lane, Performer
from apps.workflows.models.pruned import PrunedTotal
from apps.workflows.models.requests import IdempotencyKey
from apps.workflows.models.triggers import Schedule, Webhook
from apps.workflows.models.workflows import (
    Workflow,
    WorkflowGroupPermission,
    WorkflowUserPermission,
    WorkflowVersion,
)

__all__ = [
    "Artifact",
    "CachedResult",
    "Event",
    "Execution",
    "IdempotencyKey",
    "Lane",
    "LogChunk",
    "Notification",
    "Performer",
    "PrunedTotal",
    "RateLimit",
    "Receiver",
    "Schedule",
    "Task",
    "Trigger",
    "Webhook",
    "Workflow",
    "WorkflowGroupPermission",
    "WorkflowUserPermission",
    "WorkflowVersion",
]
