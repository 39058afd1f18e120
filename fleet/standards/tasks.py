"""Celery tasks of compliance: thin doors to the pass."""

from celery import shared_task

from fleet.standards.services.judging import judge_all, judge_due


@shared_task(time_limit=60)
def judge() -> None:
    """Once a second: judge the sites of which something has changed."""
    judge_due()


@shared_task(time_limit=300)
def judge_everything() -> None:
    """Every ten minutes: look at all sites, so that a note that was lost costs no more than that."""
    judge_all()
