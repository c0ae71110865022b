"""The graph of a version. Versions never change, so what was compiled once holds for ever."""

import logging
from functools import lru_cache
from uuid import UUID

from apps.core.errors import Invalid
from apps.workflows.definition.compile import compile_graph
from apps.workflows.engine.graph import Graph
from apps.workflows.models import Workflow, WorkflowVersion

logger = logging.getLogger(__name__)

_unreadable: set[UUID] = set()  # versions that this process's code cannot read: they will not change either


@lru_cache(maxsize=256)
def graph_of(version: UUID) -> Graph:
    """The compiled graph of a version.

    Raises WorkflowVersion.DoesNotExist, and `Invalid` where this code cannot read what is stored: damage, or a feature
    of another version of the platform.
    """
    definition = WorkflowVersion.objects.values_list("definition", flat=True).get(pk=version)
    try:
        return compile_graph(definition) if definition["steps"] else Graph(steps={})  # a tracker has no steps of ours
    except (Invalid, LookupError, TypeError, ValueError, AttributeError) as error:
        if version not in _unreadable:
            _unreadable.add(version)
            logger.error("the definition of the version %s cannot be read; its executions stand still", version)  # noqa: TRY400
        if isinstance(error, Invalid):
            raise
        raise Invalid("the stored definition cannot be read", code="invalid_definition") from error


def readable(version: UUID) -> bool:
    """Whether this process's code can read a version."""
    try:
        graph_of(version)
    except Invalid:
        return False
    return True


def unreadable() -> frozenset[UUID]:
    """The versions that were found not to be readable: whoever works for all passes over their executions."""
    return frozenset(_unreadable)


@lru_cache(maxsize=256)
def version_of(workflow: UUID, number: int) -> WorkflowVersion:
    """A version by its number, shared by all who ask: not to be changed. Raises WorkflowVersion.DoesNotExist."""
    return WorkflowVersion.objects.get(workflow=workflow, number=number)


@lru_cache(maxsize=1024)
def slug_of(workflow: UUID) -> str:
    """A workflow's slug, which never changes. Raises Workflow.DoesNotExist."""
    return Workflow.objects.values_list("slug", flat=True).get(pk=workflow)
