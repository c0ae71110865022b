"""A team's modules as they would be on the path of an installation."""
