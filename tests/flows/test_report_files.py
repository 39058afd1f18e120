"""Signed files of reports with real processes: made by the worker, through kill -9 and the end of the signer."""

from datetime import timedelta
from hashlib import sha256
from typing import Any

from django.utils import timezone

from fleet.kit.tenancy import scope
from slas.exports.files import file_of
from slas.models import ReportFile
from slas.services.reports import ask_for_report
from tests.conftest import everything
from tests.database import OWNER, rows
from tests.flows.system import System, query, wait_for
from tests.slas.factories import TEST, make_contract, objective, segment, states, tenures

MADE = "SELECT count(*) FROM slas_reportfile WHERE made_at IS NOT NULL"
WAITING = "SELECT count(*) FROM slas_reportfile WHERE made_at IS NULL AND problem LIKE 'It waits for the signer%%'"
DUE = "UPDATE slas_reportfile SET due_at = now() WHERE due_at IS NOT NULL"


def test_files_are_made_by_the_worker_whoever_dies_meanwhile(
    system: System, make_provider: Any, make_site: Any
) -> None:
    begin = timezone.now() - timedelta(days=40)
    nord = make_provider("nord")
    for number in range(3):
        site = make_site(f"shop-{number}", nord)
        tenures(site, (nord, begin, None))
        states(site, "availability", (begin, "up"))
    made = make_contract(segment(nord, begins=begin.isoformat(), objectives=[objective()]))
    rows("UPDATE slas_contractversion SET made_at = %s WHERE id = %s", [begin, made.pk], using=OWNER)
    with scope(TEST):
        contract = made.contract

    system.end("signer")
    for day in range(6):
        one = f"{begin + timedelta(days=day + 1):%Y-%m-%d}"
        ask_for_report(actor=TEST, rights=everything(), contract=contract, period=f"{one}..{one}")
    system.start_worker("slow")
    wait_for(lambda: query(WAITING) == [(12,)], what="all files to wait for the signer")
    system.restart("signer")
    wait_for(lambda: query(MADE)[0][0] > 0, what="the first file")
    system.kill("slow")
    rows(DUE, using=OWNER)
    system.restart("slow")
    wait_for(lambda: query(MADE) == [(12,)], what="all files")
    with scope(TEST):
        for row in ReportFile.objects.all():
            assert sha256(file_of(row)).hexdigest() == row.sha256
