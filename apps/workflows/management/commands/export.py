"""`manage.py export DIR [ID…]`: writes workflows as files that `apply` finds unchanged."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.core.errors import PlatformError
from apps.workflows.services import files


class Command(BaseCommand):
    """Replaces `ID.yaml` of each; other files are left alone."""

    help = "Writes the newest version of workflows into DIR as YAML, one file each."

    def add_arguments(self, parser: CommandParser) -> None:
        """What and where to."""
        parser.add_argument("directory", type=Path, metavar="DIR")
        parser.add_argument("ids", nargs="*", metavar="ID", help="only these workflows; default: all")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Write, and say a line for each file. Raises CommandError."""
        try:
            done = files.export(options["directory"], options["ids"])
        except PlatformError as error:
            raise CommandError(error.detail) from None
        except OSError as error:
            raise CommandError(f"cannot write {error.filename}: {error.strerror}") from None
        for one in done:
            self.stdout.write(f"{one.file}: {one.became}")
