"""Django's registration of the embedded stack (no models, management commands only)."""

from django.apps import AppConfig


class StackConfig(AppConfig):
    """Gives the project its commands `up`, `provision` and `demo_seed`."""

    name = "fleet.stack"
    label = "stack"
