"""Workflow files: `load` text, find every problem, and compile what is valid into the engine's graph. No Django."""

from apps.workflows.definition.compile import compile_graph
from apps.workflows.definition.inputs import resolve_inputs
from apps.workflows.definition.loader import load
from apps.workflows.definition.schema import Definition, Step, json_schema
from apps.workflows.definition.validate import problems_of, validated

__all__ = [
    "Definition",
    "Step",
    "compile_graph",
    "json_schema",
    "load",
    "problems_of",
    "resolve_inputs",
    "validated",
]
