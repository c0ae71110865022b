"""Agents over REST: their registration for people, and the protocol for themselves."""
