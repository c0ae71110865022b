"""Estimates as callers read them: what is left of an execution, what it rests on, what it is blocked by. Reads only."""

from apps.workflows.selectors.estimates.answers import Answer, answer

__all__ = ["Answer", "answer"]
