"""The bare views as Django's own ASGI handler serves them: an application for daphne."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.requests.bare_settings"

from django.core.asgi import get_asgi_application

application = get_asgi_application()
