"""The core floor as a Django app: no models, no domain noun."""

import logging

from django.apps import AppConfig
from django.db.backends.signals import connection_created


class CoreConfig(AppConfig):
    """Errors, the clock, logs and the frame of the API."""

    name = "apps.core"
    label = "core"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Every connection is prepared as it is made; what Python warns of is a record of the log like any other."""
        logging.captureWarnings(True)
        from apps.core.postgres import plan_for_growth

        connection_created.connect(plan_for_growth, dispatch_uid="core.plan_for_growth")
