"""The platform's own settings with bare views in place of its routes, and no middleware but what an app insists on."""

from orchestration.settings.dev import *  # noqa: F403
from orchestration.settings.dev import DATABASES

ROOT_URLCONF = "benchmarks.requests.bare"
MIDDLEWARE = ["allauth.account.middleware.AccountMiddleware"]  # without it allauth does not start
# As Django advises under ASGI: each request has a thread of its own, whose connection nobody uses again.
# Kept for a minute each, they are more than PostgreSQL takes.
DATABASES["default"]["CONN_MAX_AGE"] = 0
