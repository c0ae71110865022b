"""Tests: a data directory of their own for each process, a cheap password hash, no tracing unless a test asks."""

import atexit
import os
import shutil
import tempfile

if "DATA_DIR" not in os.environ:
    os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="platform-test-")
    atexit.register(shutil.rmtree, os.environ["DATA_DIR"], ignore_errors=True)
# pytest's workers inherit the first process's: each has its own beneath, and so have the children of its tests.
if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and not os.environ["DATA_DIR"].endswith(f"/{worker}"):
    os.environ["DATA_DIR"] += f"/{worker}"
os.environ.setdefault("DAGGER_TRACING_ENABLED", "false")
os.environ.setdefault("LOG_LEVEL", "ERROR")

from orchestration.settings.base import *  # noqa: F403
from orchestration.settings.base import DATABASES

SECRET_KEY = "test-secret-key-" + "0123456789" * 4
JWT_SIGNING_KEY = "test-signing-key-" + "9876543210" * 4
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "testserver"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
PROCESS_STEPS = "trusted"
WATCH_ALERTS = False  # a thread that looks at the database beside a test would disturb it
CONTAINER_RUNTIME = "none"  # whatever runs on the machine of who tests
# A file, not :memory:, so that threads and sockets of a test see one database.
if "sqlite" in DATABASES["default"]["ENGINE"]:
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}  # noqa: F405
