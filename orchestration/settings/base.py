"""What holds everywhere. `dev`, `prod` and `test` say only where they differ."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import dj_database_url
from corsheaders.defaults import default_headers

from apps.workflows.engine.states import Status
from orchestration import environment

ENV = environment.read()
ROOT = environment.ROOT
DATA_DIR: Path = environment.data_dir(ENV)

DEBUG = False
SECRET_KEY = ENV.SECRET_KEY
ALLOWED_HOSTS = list(ENV.ALLOWED_HOSTS)
ROOT_URLCONF = "orchestration.urls"
ASGI_APPLICATION = "orchestration.asgi.application"
AUTH_USER_MODEL = "accounts.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
USE_I18N = False
FORMAT_MODULE_PATH = "orchestration.formats"  # the admin's times, to the second
APPEND_SLASH = False

INSTALLED_APPS = [
    "apps.accounts.apps.AdminSiteConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "channels",
    "corsheaders",
    "django_filters",
    "django_prometheus",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "guardian",
    "rest_framework",
    "apps.core",
    "apps.accounts",
    "apps.executors",
    "apps.vault",
    "apps.workflows",
    "apps.workers",
    "apps.agents",
    "apps.progress",
    "apps.monitoring",
    "apps.web",
]

MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "apps.core.api.middleware.RequestMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "apps.accounts.ratelimit.RateLimitMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


def database(url: str, *, data_dir: Path) -> dict[str, Any]:
    """The database of `DATABASE_URL`, or SQLite in `data_dir`; with what the engine needs of either."""
    config: dict[str, Any] = dict(dj_database_url.parse(url or f"sqlite:///{data_dir / 'platform.sqlite3'}"))
    if "sqlite" in str(config["ENGINE"]):
        config["ENGINE"] = "apps.core.sqlite"
    config["CONN_MAX_AGE"] = None if "sqlite" in str(config["ENGINE"]) else 60
    config["CONN_HEALTH_CHECKS"] = True
    return config


DATABASES = {"default": database(ENV.DATABASE_URL, data_dir=DATA_DIR)}

if ENV.REDIS_URL:
    CACHES: dict[str, Any] = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": ENV.REDIS_URL,
            "OPTIONS": {"serializer": "apps.core.caching.JSONSerializer"},
        }
    }
    # Rings of the doorbell across hosts, and nothing else. The pub/sub layer: with redis-py 8 the other one lost idle
    # subscribers within seconds.
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [ENV.REDIS_URL]},
        }
    }
else:
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
# django-ratelimit errors on LocMem (E003) and warns on Django's own RedisCache (W001); one server process is what
# LocMem is for, and more than one without Redis is refused by `environment.unsafe_for_production`.
SILENCED_SYSTEM_CHECKS = ["django_ratelimit.E003", "django_ratelimit.W001"]

AUTHENTICATION_BACKENDS = ["apps.accounts.backends.PasswordBackend", "guardian.backends.ObjectPermissionBackend"]
ANONYMOUS_USER_NAME = None  # guardian would otherwise make a user row for "nobody"
# django-allauth: second factors and OpenID Connect behind two modules of ours, with no page or mail of its own.
ACCOUNT_ADAPTER = "apps.accounts.oidc.AccountAdapter"
ACCOUNT_EMAIL_VERIFICATION = SOCIALACCOUNT_EMAIL_VERIFICATION = "none"
SOCIALACCOUNT_ADAPTER = "apps.accounts.oidc.ProviderAdapter"
SOCIALACCOUNT_STORE_TOKENS = False
MFA_ADAPTER = "apps.accounts.second_factor.SealingAdapter"
MFA_TOTP_ISSUER = "AI Orchestration Platform"
MFA_TOTP_TOLERANCE = 1  # windows of 30 seconds before and after: clocks differ
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
LOGIN_URL = "/ui/login"
LOGIN_REDIRECT_URL = "/ui/"
LOGOUT_REDIRECT_URL = "/ui/login"
CSRF_FAILURE_VIEW = "apps.core.api.problems.csrf_failure"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = False  # Swagger UI and the browsable API read it
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
CORS_ALLOWED_ORIGINS = list(ENV.CORS_ALLOWED_ORIGINS)
CORS_ALLOW_HEADERS = [*default_headers, "idempotency-key"]
CORS_EXPOSE_HEADERS = [
    "X-Request-ID", "Retry-After", "Idempotency-Replayed", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset",
]  # fmt: skip

JWT_SIGNING_KEY = ENV.JWT_SIGNING_KEY
JWT_SIGNING_KEYS_OLD = ENV.JWT_SIGNING_KEYS_OLD
VAULT_KEYS = ENV.VAULT_KEYS
ACCESS_TOKEN_LIFETIME = timedelta(minutes=30)
REFRESH_TOKEN_LIFETIME = timedelta(days=7)

DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024 + 64 * 1024  # a definition of 4 MiB and its envelope
REQUEST_MAX_BYTES = DATA_UPLOAD_MAX_MEMORY_SIZE  # the largest body of any route: what the server's door keeps

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "apps.accounts.api.authentication.BearerAuthentication",
        *(["apps.accounts.api.authentication.SessionAuthentication"] if ENV.BROWSABLE_API else []),
    ],
    "DEFAULT_PERMISSION_CLASSES": ["apps.accounts.api.permissions.DeclaredPermission"],
    "DEFAULT_RENDERER_CLASSES": [
        "apps.core.api.renderers.JSONRenderer",
        *(["apps.core.api.renderers.BrowsableRenderer"] if ENV.BROWSABLE_API else []),
    ],
    "DEFAULT_PARSER_CLASSES": ["apps.core.api.parsers.JSONParser"],
    "DEFAULT_PAGINATION_CLASS": "apps.core.api.pagination.CursorPagination",
    "DEFAULT_SCHEMA_CLASS": "apps.core.api.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "apps.core.api.problems.exception_handler",
    "PAGE_SIZE": 50,
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}

SPECTACULAR_SETTINGS = {
    "TITLE": "AI Orchestration Platform",
    "VERSION": "0.1.0",
    "OAS_VERSION": "3.1.0",
    "DESCRIPTION": "Define workflows, run them durably, watch them live.",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "",
    "ENUM_NAME_OVERRIDES": {
        "StatusEnum": [(status.value, status.value) for status in Status],
        "WorkflowKindEnum": "apps.workflows.models.Workflow.Kind",
        "ReceiverKindEnum": "apps.workflows.models.Receiver.Kind",
        "BreakerStateEnum": [("closed", "closed"), ("open", "open"), ("half_open", "half_open")],
        "ReadinessEnum": [("ok", "ok"), ("unavailable", "unavailable")],
    },
}

EMAIL_HOST = ENV.EMAIL_HOST
EMAIL_PORT = ENV.EMAIL_PORT
EMAIL_HOST_USER = ENV.EMAIL_HOST_USER
EMAIL_HOST_PASSWORD = ENV.EMAIL_HOST_PASSWORD
EMAIL_USE_TLS = ENV.EMAIL_USE_TLS
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = ENV.EMAIL_FROM or ENV.EMAIL_HOST_USER or "platform@localhost"

STATIC_URL = "/static/"
STATIC_ROOT = ROOT / "staticfiles"
STATICFILES_DIRS = [ROOT / "static"]
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = True  # development and the demo serve without `collectstatic`

# What wraps each attempt in a worker: observers of steps that the workers' own app must not know.
WATCH_ALERTS = True  # a server process looks at the rules of alerts by itself
ATTEMPT_MIDDLEWARE = ["apps.monitoring.tracing.around_attempt"] if ENV.DAGGER_TRACING_ENABLED else []

PROCESS_STEPS = ENV.PROCESS_STEPS or "off"
CONTAINER_RUNTIME = ENV.CONTAINER_RUNTIME  # empty: what is there, looked for when it is needed
PROMETHEUS_EXPORT_MIGRATIONS = False

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "apps.core.logs.JSONFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": ENV.LOG_LEVEL},
    "loggers": {
        "django.request": {"level": "ERROR"},
        # An unknown Host is the caller's mistake, answered 400: no reason to fill the log with tracebacks.
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        "django.channels.server": {"level": "WARNING"},
        "daphne": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
    },
}
