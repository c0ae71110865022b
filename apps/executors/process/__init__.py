"""Steps that run a command of the host: never through a shell, never with the server's environment."""

from apps.executors.process.config import Command, Config, Environment
from apps.executors.process.executor import ProcessExecutor

__all__ = ["Command", "Config", "Environment", "ProcessExecutor"]
