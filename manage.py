#!/usr/bin/env python3
"""The command line of an installation: `manage.py help` lists the commands."""

import os
import sys


def main() -> int:
    """Run one command; a wrong setting ends with one line that names it."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestration.settings.dev")
    from django.core.management import execute_from_command_line
    from django.db.utils import InterfaceError, OperationalError, ProgrammingError

    from orchestration.environment import UnsafeEnvironment

    try:
        execute_from_command_line(sys.argv)
    except UnsafeEnvironment as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 2
    except (OperationalError, InterfaceError, ProgrammingError) as error:
        # Away, or without our tables; any other ProgrammingError is a mistake of ours.
        known = not isinstance(error, ProgrammingError) or "does not exist" in str(error)
        if "--traceback" in sys.argv or not known:
            raise
        line = " ".join(str(error).split())
        sys.stderr.write(f"the database cannot be used: {line}; is it there (DATABASE_URL), and migrated?\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
