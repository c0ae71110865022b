"""The graph of a version. Versions never change, so what was compiled once holds for ever."""

from functools import lru_cache
from uuid import UUID

from apps.workflows.definition.compile import compile_graph
from apps.workflows.engine.graph import Graph
from apps.workflows.models import Workflow, WorkflowVersion


@lru_cache(maxsize=256)
def graph_of(version: UUID) -> Graph:
    """The compiled graph of a version. Raises WorkflowVersion.DoesNotExist."""
    definition = WorkflowVersion.objects.values_list("definition", flat=True).get(pk=version)
    return compile_graph(definition) if definition["steps"] else Graph(steps={})  # a tracker has no steps of ours


@lru_cache(maxsize=256)
def version_of(workflow: UUID, number: int) -> WorkflowVersion:
    """A version by its number, shared by all who ask: not to be changed. Raises WorkflowVersion.DoesNotExist."""
    return WorkflowVersion.objects.get(workflow=workflow, number=number)


@lru_cache(maxsize=1024)
def slug_of(workflow: UUID) -> str:
    """A workflow's slug, which never changes. Raises Workflow.DoesNotExist."""
    return Workflow.objects.values_list("slug", flat=True).get(pk=workflow)
