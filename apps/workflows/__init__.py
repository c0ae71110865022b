"""The only app that knows what an execution is."""
