"""App configuration of rollouts."""

from django.apps import AppConfig


class RolloutsConfig(AppConfig):
    """Plans, waves, gates, and the engine that moves sites through them."""

    name = "fleet.rollouts"
    label = "rollouts"
