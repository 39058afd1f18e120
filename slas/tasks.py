"""Celery tasks of SLAs: thin doors to the passes."""

from celery import shared_task

from slas.services.blindness import find_blindness
from slas.services.deriving import derive_due


@shared_task(time_limit=120)
def derive_outages() -> None:
    """Every two seconds: derive the outages of the sites whose states have changed."""
    derive_due()


@shared_task(time_limit=60)
def watch_the_centre() -> None:
    """Every half minute: find out whether the centre itself could watch."""
    find_blindness()
