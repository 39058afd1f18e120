"""Celery: queues, and the one beat schedule."""

import os
from typing import Any

from celery import Celery
from celery.beat import PersistentScheduler
from celery.schedules import crontab
from celery.signals import task_prerun

from fleet.broker_watch import BrokerWatch

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
app = Celery("archipelago")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["sites", "slas", "fleet.standards", "fleet.rollouts"])
app.steps["consumer"].add(BrokerWatch)

app.conf.task_routes = {
    "sites.tasks.claim_due": {"queue": "tick"},
    "fleet.rollouts.tasks.tick_rollouts": {"queue": "tick"},
    "sites.tasks.roll_up": {"queue": "slow"},
    "slas.tasks.count_round_trips": {"queue": "slow"},
    "slas.tasks.keep_budgets": {"queue": "slow"},
    "slas.tasks.make_reports": {"queue": "slow"},
    "slas.tasks.make_report_files": {"queue": "slow"},
    "fleet.standards.tasks.judge_everything": {"queue": "slow"},
}
# Messages expire before the next of their kind comes, so a stopped worker finds no heap of old ones.
app.conf.beat_schedule = {
    "claim due sites": {"task": "sites.tasks.claim_due", "schedule": 1.0, "options": {"expires": 2}},
    "tick rollouts": {"task": "fleet.rollouts.tasks.tick_rollouts", "schedule": 0.5, "options": {"expires": 1}},
    "send webhooks": {"task": "fleet.rollouts.tasks.send_webhooks", "schedule": 1.0, "options": {"expires": 2}},
    "prune webhooks": {
        "task": "fleet.rollouts.tasks.prune_webhooks",
        "schedule": crontab(minute="23"),
        "options": {"expires": 3000},
    },
    "judge sites that changed": {"task": "fleet.standards.tasks.judge", "schedule": 1.0, "options": {"expires": 2}},
    "judge all sites": {
        "task": "fleet.standards.tasks.judge_everything",
        "schedule": 600.0,
        "options": {"expires": 500},
    },
    "derive outages": {"task": "slas.tasks.derive_outages", "schedule": 2.0, "options": {"expires": 3}},
    "watch the centre": {"task": "slas.tasks.watch_the_centre", "schedule": 30.0, "options": {"expires": 25}},
    "keep scorecards": {"task": "slas.tasks.keep_cards", "schedule": 60.0, "options": {"expires": 55}},
    "keep budgets": {"task": "slas.tasks.keep_budgets", "schedule": 60.0, "options": {"expires": 55}},
    "make reports": {"task": "slas.tasks.make_reports", "schedule": 2.0, "options": {"expires": 2}},
    "make files of reports": {"task": "slas.tasks.make_report_files", "schedule": 2.0, "options": {"expires": 2}},
    "want reports": {"task": "slas.tasks.want_reports", "schedule": 60.0, "options": {"expires": 55}},
    "count round trips": {"task": "slas.tasks.count_round_trips", "schedule": 300.0, "options": {"expires": 280}},
    "send mails": {"task": "slas.tasks.send_mails", "schedule": 5.0, "options": {"expires": 5}},
    "roll up samples": {"task": "sites.tasks.roll_up", "schedule": 60.0, "options": {"expires": 55}},
    "make and drop partitions": {
        "task": "sites.tasks.keep_partitions",
        "schedule": crontab(minute="7"),
        "options": {"expires": 3000},
    },
}
app.conf.beat_scheduler = "fleet.celery:Scheduler"


class Scheduler(PersistentScheduler):
    """Celery's own wakes 10 ms early and spins until the time has come: for a task a second, 1 % of a core."""

    def adjust(self, n: Any, drift: float = 0.0) -> Any:
        """Seconds to sleep: those that are left."""
        return super().adjust(n, drift)


@task_prerun.connect
def mend_connections(**kwargs: Any) -> None:
    """Close connections to the database that are broken or too old, so that the task opens new ones."""
    from django.db import close_old_connections  # the settings may not be ready when Celery imports this module

    close_old_connections()
