"""Celery tasks of SLAs: thin doors to the passes."""

from typing import Final

from celery import shared_task

from slas.services.blindness import find_blindness
from slas.services.budgets import work_out_budgets
from slas.services.deriving import derive_due
from slas.services.latency import count_latency
from slas.services.posting import send_due
from slas.services.report_files import make_files, want_files
from slas.services.report_making import keep_reports, make_wanted
from slas.services.scorecards import keep_scorecards

# What many sites at once bring is worked off in one go; what goes on and on leaves the worker to others in between.
PASSES: Final = 20


@shared_task(time_limit=120)
def derive_outages() -> None:
    """Every two seconds: derive the outages of the sites whose states have changed, in passes of some at a time."""
    for _ in range(PASSES):
        if not derive_due():
            break


@shared_task(time_limit=60)
def watch_the_centre() -> None:
    """Every half minute: find out whether the centre itself could watch."""
    find_blindness()


@shared_task(time_limit=120)
def keep_cards() -> None:
    """Every minute: compute the scorecards of months whose facts have changed."""
    keep_scorecards()


@shared_task(time_limit=300)
def keep_budgets() -> None:
    """Every minute: work out error budgets, and whether one goes too fast."""
    work_out_budgets()


@shared_task(time_limit=600)
def make_reports() -> None:
    """Every two seconds: make the reports that are wanted."""
    make_wanted()


@shared_task(time_limit=600)
def make_report_files() -> None:
    """Every two seconds: make the signed files that revisions of reports lack."""
    make_files()


@shared_task(time_limit=60)
def want_reports() -> None:
    """Every minute: see which reports are to be made: of months that ended, final ones, those whose facts changed."""
    keep_reports()
    want_files()


@shared_task(time_limit=280)
def count_round_trips() -> None:
    """Every five minutes: count the round trips of days that are over, some sites at a time."""
    count_latency()


@shared_task(time_limit=600)
def send_mails() -> None:
    """Every five seconds: send the mails of reports that are due."""
    send_due()
