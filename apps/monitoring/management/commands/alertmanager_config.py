"""Writes Alertmanager's file with this installation's destinations: `manage.py alertmanager_config FILE`."""

import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.monitoring.alerts import destinations


class Command(BaseCommand):
    """For a deployment: routes and inhibitions as committed, receivers as the settings name them."""

    help = "Writes Alertmanager's configuration, with the destinations of ALERT_PAGER, ALERT_OPERATORS, ALERT_WATCHDOG."

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to."""
        parser.add_argument("file", type=Path, nargs="?", help="replaced as a whole; without it, to standard output")

    def handle(self, *_: Any, **options: Any) -> None:
        """Raises CommandError where a mail could not be sent, or the file not be written."""
        try:
            text, silent = destinations.rendered()
        except ValueError as error:
            raise CommandError(str(error)) from None
        for name in silent:
            self.stderr.write(f"{name}: nobody is told; name somebody in {destinations.SETTINGS[name]}")
        if options["file"] is None:
            self.stdout.write(text, ending="")
        else:
            _write(options["file"], text)


def _write(path: Path, text: str) -> None:
    """Replace it at once. It may hold passwords; Alertmanager runs as another user, who reads by the group."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.touch(mode=0o640)
        fresh.write_text(text)
        fresh.replace(path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None
