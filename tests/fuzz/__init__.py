"""Hostile requests against every route: literals of a corpus in every place, and what the OpenAPI document allows."""
