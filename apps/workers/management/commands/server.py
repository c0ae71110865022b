"""`manage.py server`: the HTTP and WebSocket server of this installation, and nothing else."""

from importlib import import_module
from typing import Any

import daphne.server
from daphne.cli import CommandLineInterface
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import get_resolver

from apps.core import heap
from apps.workers.door import BoundedFactory
from apps.workers.processes import alone, between, end_with_parent, why_not


class Command(BaseCommand):
    """One server process (daphne)."""

    requires_system_checks: list[str] = []  # `make check` and `migrate` run them; this starts in a tenth of the time
    help = "Serves HTTP and WebSockets on HOST:PORT until SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        """Its options; the defaults are the settings'."""
        parser.add_argument("--host", default=settings.ENV.HOST)
        parser.add_argument("--port", type=between(1, 65535), default=settings.ENV.PORT)

    def handle(self, *_args: Any, **options: Any) -> None:
        """Serve. Raises CommandError when nothing can listen there, or a second server has no cache to share."""
        end_with_parent()
        host, port = options["host"], options["port"]
        if reason := why_not(host, port):
            raise CommandError(reason)
        lock = None if settings.ENV.REDIS_URL else alone(settings.DATA_DIR)
        if lock is None and not settings.ENV.REDIS_URL:
            raise CommandError(
                f"another server process runs over DATA_DIR={settings.DATA_DIR}: set REDIS_URL, through which several "
                "share rate limits and tickets, or stop the other"
            )
        daphne.server.HTTPFactory = BoundedFactory  # type: ignore[attr-defined]  # it has no other way to be told
        import_module("orchestration.asgi")
        _ = get_resolver().url_patterns  # else the first request imports all views
        heap.settle()
        CommandLineInterface().run(
            ["--bind", host, "--port", str(port), "--no-server-name", "-v", "0", "--http-timeout", "120",
             "--websocket_timeout", "-1", "--application-close-timeout", "5", "orchestration.asgi:application"]
        )  # fmt: skip
