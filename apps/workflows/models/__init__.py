"""Rows, their constraints, and the querysets that gate them by permission."""

from apps.workflows.models.artifacts import Artifact
from apps.workflows.models.breakers import BreakerCall, BreakerMove, CircuitBreaker
from apps.workflows.models.counted import Figure, GoneTotal, MetricLabel, OutcomeTotal
from apps.workflows.models.estimates import Experience, PastRun, Prediction, PredictionTotal, StepWeights
from apps.workflows.models.executions import Event, Execution, LogChunk, Task, Trigger
from apps.workflows.models.limits import CachedResult, RateLimit
from apps.workflows.models.notifications import Notification, Receiver
from apps.workflows.models.performers import Lane, Performer
from apps.workflows.models.requests import IdempotencyKey
from apps.workflows.models.triggers import Schedule, Webhook
from apps.workflows.models.workflows import (
    Workflow,
    WorkflowGroupPermission,
    WorkflowRolePermission,
    WorkflowUserPermission,
    WorkflowVersion,
)

__all__ = [
    "Artifact",
    "BreakerCall",
    "BreakerMove",
    "CachedResult",
    "CircuitBreaker",
    "Event",
    "Execution",
    "Experience",
    "Figure",
    "GoneTotal",
    "IdempotencyKey",
    "Lane",
    "LogChunk",
    "MetricLabel",
    "Notification",
    "OutcomeTotal",
    "PastRun",
    "Performer",
    "Prediction",
    "PredictionTotal",
    "RateLimit",
    "Receiver",
    "Schedule",
    "StepWeights",
    "Task",
    "Trigger",
    "Webhook",
    "Workflow",
    "WorkflowGroupPermission",
    "WorkflowRolePermission",
    "WorkflowUserPermission",
    "WorkflowVersion",
]
