"""App configuration of sites."""

from django.apps import AppConfig


class SitesConfig(AppConfig):
    """Sites. The label is not plain `sites`: that one belongs to django.contrib.sites."""

    name = "sites"
    label = "edge_sites"
    verbose_name = "Sites"
