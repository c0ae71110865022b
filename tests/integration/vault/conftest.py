"""Clients that are an account."""

from tests.integration.workflows.conftest import client_of

__all__ = ["client_of"]
