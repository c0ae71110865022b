"""The platform's own settings with bare views in place of its routes, and no middleware but what an app insists on."""

from orchestration.settings.dev import *  # noqa: F403

ROOT_URLCONF = "benchmarks.requests.bare"
MIDDLEWARE = ["allauth.account.middleware.AccountMiddleware"]  # without it allauth does not start
