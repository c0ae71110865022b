"""The core floor as a Django app: no models, no domain noun."""

from django.apps import AppConfig


class CoreConfig(AppConfig):
    """Errors, the clock, logs and the frame of the API."""

    name = "apps.core"
    label = "core"
    default_auto_field = "django.db.models.BigAutoField"
