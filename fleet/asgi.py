"""ASGI entry: HTTP by Django, the one websocket by Channels."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator, WebsocketDenier
from django.core.asgi import get_asgi_application
from django.urls import path, re_path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
http = get_asgi_application()

from fleet.consumers import LiveConsumer, SameOriginOnly, SessionUserMiddleware  # noqa: E402  (needs a ready registry)

sockets = URLRouter([path("ws/live/", LiveConsumer.as_asgi()), re_path("", WebsocketDenier.as_asgi())])  # type: ignore[arg-type,list-item]  # its stubs

application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": AllowedHostsOriginValidator(SameOriginOnly(SessionUserMiddleware(sockets))),
    }
)
