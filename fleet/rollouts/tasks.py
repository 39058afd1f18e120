"""Celery tasks of rollouts: thin doors to the tick, and to the sender of webhooks."""

from celery import shared_task

from fleet.rollouts.sender import send_due
from fleet.rollouts.services.sending import prune
from fleet.rollouts.services.telling import tell
from fleet.rollouts.services.ticking import tick
from sites.tasks import claim_due


@shared_task(time_limit=60)
def tick_rollouts() -> None:
    """Twice a second, and when sites have moved: have each rollout do what it does next.

    While sites are in flight, those that are due by now are claimed here, twice as often as all others.
    """
    if tick().in_flight:
        claim_due()


@shared_task(time_limit=60)
def send_webhooks() -> None:
    """Once a second: write what happened to SLAs, and send what is due to webhooks."""
    tell()
    send_due()


@shared_task(time_limit=60)
def prune_webhooks() -> None:
    """Once an hour: forget messages that are too old."""
    prune()
