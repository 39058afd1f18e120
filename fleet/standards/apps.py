"""App configuration of standards."""

from django.apps import AppConfig


class StandardsConfig(AppConfig):
    """What sites must run, and whether they do."""

    name = "fleet.standards"
    label = "standards"
    verbose_name = "Standards"
