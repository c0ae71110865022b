"""The fixture that users have, for the tests of what definitions mean."""

from apps.workflows.testing.plugin import workflow

__all__ = ["workflow"]
