"""ASGI entry: HTTP by Django, the one websocket by Channels."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
http = get_asgi_application()

from fleet.consumers import LiveConsumer, SessionUserMiddleware  # noqa: E402  (models need a ready registry)

application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": AllowedHostsOriginValidator(
            SessionUserMiddleware(
                URLRouter([path("ws/live/", LiveConsumer.as_asgi())]),  # type: ignore[arg-type,list-item]  # its stubs
            )
        ),
    }
)
