"""Runs workflows in a test: in process, without a database or a network, under a virtual clock.

`docs/testing.md` shows how. The engine that decides here is the one that decides on a server.
"""

from apps.workflows.testing.functions import calls
from apps.workflows.testing.harness import Harness
from apps.workflows.testing.mocks import Call, HarnessError, Outcome, fails, lost, returns, takes
from apps.workflows.testing.performing import Limits
from apps.workflows.testing.results import Entry, Journal, Result, Task

__all__ = [
    "Call",
    "Entry",
    "Harness",
    "HarnessError",
    "Journal",
    "Limits",
    "Outcome",
    "Result",
    "Task",
    "calls",
    "fails",
    "lost",
    "returns",
    "takes",
]
