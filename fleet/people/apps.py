"""App configuration of people."""

from django.apps import AppConfig


class PeopleConfig(AppConfig):
    """Who signs in, and what they may see and do."""

    name = "fleet.people"
    label = "people"
