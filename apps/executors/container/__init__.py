"""Steps that run an image: on a Dagger engine, or on the API of Docker or Podman. Nothing heavy is imported here."""

from apps.executors.container.choice import chosen
from apps.executors.container.config import Config
from apps.executors.container.executor import ContainerExecutor
from apps.executors.container.status import Status, status

__all__ = ["Config", "ContainerExecutor", "Status", "chosen", "status"]
