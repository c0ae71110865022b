"""`make run`: prepares the database and the first account, then becomes `manage.py serve`."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MANAGE = [sys.executable, str(ROOT / "manage.py")]


def prepare() -> str:
    """Migrate and make the first administrator; gives what that command printed. Ends the process when it cannot."""
    printed = ""
    for command in (["migrate", "--verbosity", "0"], ["create_admin"]):
        done = subprocess.run([*MANAGE, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(done.returncode)
        printed += done.stdout
    return printed


def main() -> None:
    """Prepare, then replace this process, so that signals reach the supervisor itself."""
    sys.path.insert(0, str(ROOT))
    from orchestration.environment import UnsafeEnvironment, data_dir, read

    try:
        env = read()
        data_dir(env)
    except UnsafeEnvironment as wrong:
        sys.exit(str(wrong))
    print(prepare(), end="", flush=True)
    print(f"serving on http://{env.HOST}:{env.PORT}/ with {env.WORKERS} workers; data in {env.DATA_DIR}", flush=True)
    os.execv(sys.executable, [*MANAGE, "serve"])  # noqa: S606 (our own command)


if __name__ == "__main__":
    main()
