"""Django's registration of the signer (no models, one management command)."""

from django.apps import AppConfig


class SignerConfig(AppConfig):
    """Gives the project its command `signer`."""

    name = "fleet.signer"
    label = "signer"
