"""The systems that a user would pick instead, each measured in an environment of its own, with the same shapes."""
