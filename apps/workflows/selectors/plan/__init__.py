"""The plan of a workflow: what would happen if it were executed now. Executes nothing, writes nothing."""

from apps.workflows.selectors.plan.planning import plan_of

__all__ = ["plan_of"]
