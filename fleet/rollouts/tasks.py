"""Celery tasks of rollouts: thin doors to the tick."""

from celery import shared_task

from fleet.rollouts.services.ticking import tick


@shared_task(time_limit=60)
def tick_rollouts() -> None:
    """Once a second: have each rollout do what it does next."""
    tick()
