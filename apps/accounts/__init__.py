"""Accounts: users, roles, permissions, tokens, rate limits; who may what."""
