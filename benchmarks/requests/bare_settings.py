"""The platform's own settings with bare views in place of its routes, and no middleware."""

from orchestration.settings.dev import *  # noqa: F403

ROOT_URLCONF = "benchmarks.requests.bare"
MIDDLEWARE = []
