"""The Django project, and what acts on the whole fleet."""

from fleet.celery import app as celery_app

__all__ = ["celery_app"]
