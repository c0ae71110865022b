"""The server's entry point: HTTP to Django, sockets to the consumers."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestration.settings.dev")
django.setup()

from channels.routing import ProtocolTypeRouter  # noqa: E402
from django.conf import settings  # noqa: E402

from apps.core.api.asgi import get_application  # noqa: E402
from apps.monitoring import tracing  # noqa: E402
from apps.monitoring.alerts import watching  # noqa: E402
from apps.progress.routing import websocket  # noqa: E402
from apps.progress.wire import telling  # noqa: E402

# Before the application is made: the instrumentation adds to MIDDLEWARE.
tracing.configure(service="server")
if settings.WATCH_ALERTS:
    watching.start()
application = ProtocolTypeRouter({"http": telling(get_application()), "websocket": websocket})
