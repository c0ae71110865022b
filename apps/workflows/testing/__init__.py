"""Runs workflows in a test: in process, without a database, under a virtual clock."""
