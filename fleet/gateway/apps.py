"""The gateway as a Django app, for its command."""

from django.apps import AppConfig


class GatewayConfig(AppConfig):
    """See fleet.gateway.app."""

    name = "fleet.gateway"
