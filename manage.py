#!/usr/bin/env python3
"""The command line of an installation: `manage.py help` lists the commands."""

import os
import sys


def main() -> int:
    """Run one command; a wrong setting ends with one line that names it."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestration.settings.dev")
    from django.core.management import execute_from_command_line

    from orchestration.environment import UnsafeEnvironment

    try:
        execute_from_command_line(sys.argv)
    except UnsafeEnvironment as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
