"""Agents: outside programs that claim tasks over HTTP, and the client that their authors import."""
