"""App configuration of the kit."""

from django.apps import AppConfig


class KitConfig(AppConfig):
    """Audit table, tenancy and the pieces that every app builds on."""

    name = "fleet.kit"
    label = "kit"

    def ready(self) -> None:
        """Register the system checks."""
        from fleet.kit import checks  # noqa: F401  (importing registers them)
