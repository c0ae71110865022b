"""Production: what is unsafe is refused by name, before anything starts."""

import os

from orchestration.environment import UnsafeEnvironment, unsafe_for_production
from orchestration.settings.base import *  # noqa: F403
from orchestration.settings.base import ENV

if _unsafe := unsafe_for_production(ENV, debug=os.environ.get("DEBUG", "").lower() in ("1", "true", "yes", "on")):
    raise UnsafeEnvironment(_unsafe)

WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = False
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ENV.TRUSTED_PROXIES else None
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = ENV.PLATFORM_URL.startswith("https://")
SECURE_HSTS_SECONDS = 31_536_000 if SESSION_COOKIE_SECURE else 0
CSRF_TRUSTED_ORIGINS = [ENV.PLATFORM_URL] if ENV.PLATFORM_URL else []
