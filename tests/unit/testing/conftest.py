"""The fixture that users have."""

from apps.workflows.testing.plugin import workflow

__all__ = ["workflow"]
