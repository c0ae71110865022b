"""The environment variables that definitions may read: those in `WORKFLOW_ENV_ALLOWED` and no other."""

import os
from collections.abc import Mapping
from functools import cache

from django.conf import settings


@cache
def allowed_environment() -> Mapping[str, str]:
    """Name and value of each allowed variable that is set."""
    return {name: os.environ[name] for name in settings.ENV.WORKFLOW_ENV_ALLOWED if name in os.environ}
