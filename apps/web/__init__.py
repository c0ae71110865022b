"""Pages for people. Nothing here writes to the database."""
