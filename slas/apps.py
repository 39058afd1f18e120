"""App configuration of slas."""

from django.apps import AppConfig


class SlasConfig(AppConfig):
    """What was promised, and whether it was kept."""

    name = "slas"
    verbose_name = "SLAs"
