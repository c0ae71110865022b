"""Real servers for tests: private, on free ports, stopped by their own process ids."""
