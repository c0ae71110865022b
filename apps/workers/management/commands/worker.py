"""`manage.py worker`: claims tasks and performs them until SIGTERM, then drains."""

import asyncio
import os
import secrets
import socket
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.core import heap
from apps.workers.ledger import Settings
from apps.workers.loop import Worker
from apps.workers.processes import between, end_with_parent
from apps.workflows.engine.labels import LabelError, parse_labels


class Command(BaseCommand):
    """One worker process."""

    requires_system_checks: list[str] = []  # `make check` and `migrate` run them; a worker needs no routes to start
    help = "Claims tasks and performs them until SIGTERM, then finishes what runs and gives back the rest."

    def add_arguments(self, parser: CommandParser) -> None:
        """Its options; the defaults are the settings'."""
        parser.add_argument("--token", default="", help="makes its name known to whoever started it (see `name_of`)")
        parser.add_argument("--slots", type=between(1, 1000), default=settings.ENV.SLOTS, help="steps at a time")
        parser.add_argument(
            "--labels",
            default=settings.ENV.WORKER_LABELS,
            help="what it is: gpu=2,region=eu,ssd (default: WORKER_LABELS)",
        )
        parser.add_argument("--queues", default="", help="only these queues (a, b); default: all")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run it. Raises CommandError for labels that cannot be read."""
        end_with_parent()
        queues = tuple(name.strip() for name in options["queues"].split(",") if name.strip())
        try:
            labels = parse_labels(options["labels"])
        except LabelError as wrong:
            raise CommandError(f"--labels: {wrong.message} (at character {wrong.position + 1})") from None
        worker = Worker(
            Settings(
                name=name_of(os.getpid(), options["token"] or new_token()),
                slots=options["slots"],
                lease_seconds=settings.ENV.LEASE_SECONDS,
                queues=queues or None,
                labels=labels,
            )
        )
        heap.settle()
        asyncio.run(worker.run())


def new_token() -> str:
    """What makes a worker's name its own, also after its pid was given to another process."""
    return secrets.token_hex(3)


def name_of(pid: int, token: str) -> str:
    """What the leases of the worker process `pid` name as their owner."""
    return f"{socket.gethostname()[:60]}-{pid}-{token}"
