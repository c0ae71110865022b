"""Workflows that the demo and the tests really run."""
