"""`manage.py apply DIR`: has a directory of workflow files be the workflows of this installation."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.audit import command
from apps.accounts.models import User
from apps.core.errors import PlatformError
from apps.workflows.services import files


class Command(BaseCommand):
    """All files or none; doing it again changes nothing."""

    help = "Creates or changes a workflow for every *.yaml, *.yml and *.json below DIR; all of them or none."

    def add_arguments(self, parser: CommandParser) -> None:
        """Its options."""
        parser.add_argument("directory", type=Path, metavar="DIR")
        parser.add_argument("--by", default="admin", metavar="USERNAME", help="owner of new workflows (default: admin)")
        parser.add_argument("--dry-run", action="store_true", help="only say what would become of each file")
        parser.add_argument(
            "--prune", action="store_true", help="delete workflows applied from here whose file is gone"
        )
        parser.add_argument("--source", default="", metavar="MARK", help="how --prune knows them (default: DIR's path)")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Apply, and say a line for each file. Raises CommandError after having named every problem."""
        directory: Path = options["directory"]
        if not directory.is_dir():
            raise CommandError(f"{directory} is no directory")
        by = User.objects.filter(username=options["by"], is_active=True).first()
        if by is None:
            raise CommandError(f"there is no active account {options['by']!r}; name one with --by")
        wanted = {name: options[name] for name in ("source", "prune", "dry_run")}
        try:
            with nullcontext() if options["dry_run"] else command("apply"):
                done = files.apply(directory, by=by, **wanted)
        except files.Wrong as wrong:
            for name, problem in wrong.problems:
                self.stderr.write(f"{name}: {problem.pointer or '/'}: {problem.message}")
            count = len(wrong.problems)
            raise CommandError(f"{count} {'problem' if count == 1 else 'problems'}; nothing was changed") from None
        except PlatformError as error:
            raise CommandError(f"{error.detail}; nothing was changed") from None
        for one in done:
            self.stdout.write(f"{one.file or one.workflow}: {one.became}")
