"""The app that knows what an execution is."""

from django.apps import AppConfig


class WorkflowsConfig(AppConfig):
    """Workflows, versions, executions, tasks and their journal."""

    name = "apps.workflows"
    label = "workflows"
