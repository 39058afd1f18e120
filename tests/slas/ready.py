"""What must be there before an operation of the API on SLAs can be done: a contract, a window that may be answered."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fleet.kit.tenancy import scope
from fleet.people.selectors import access_of
from sites.models import Site
from slas.models import Incident
from slas.services.deriving import derive_due
from slas.services.disputes import attach_file, file_dispute
from slas.services.mailing import save_schedule
from slas.services.report_files import make_files
from slas.services.report_making import make_wanted
from slas.services.reports import ask_for_report
from slas.services.upkeep import request_window
from tests.conftest import everything
from tests.slas.factories import NOVEMBER, TEST, make_contract, objective, segment, states, tenures
from tests.slas.signing import signer_of_files

SLAS = ("/api/v1/maintenance", "/api/v1/contracts", "/api/v1/outages", "/api/v1/disputes", "/api/v1/report")


def ready_for(operation: str, site: Site, make_person: Callable[..., Any]) -> None:
    """Outage 1 and, unless one is to be filed, dispute 1 with file 1; or contract `shops` of the site's provider,
    and window 1, asked for by the side that an administrator may answer; or report 1, in which nothing is proven,
    with its signed files where one is to be had."""
    if operation.endswith(("outage", "outages", "dispute", "disputes", "dispute_file")):
        _outage(operation, site, make_person)
        return
    if "report" in operation:
        _report(operation, site)
        return
    make_contract(segment(site.provider))
    role = {"cancel_maintenance": ("operator", {})}.get(operation, ("provider_operator", {"provider": site.provider}))
    actor, rights = access_of(make_person(role[0], username="asks", **role[1]))
    begins = datetime.now(UTC) + timedelta(days=5)
    request_window(
        actor=actor,
        rights=rights,
        sites=[site.slug],
        title="Cable",
        begins=begins,
        ends=begins + timedelta(hours=1),
    )


def _outage(operation: str, site: Site, make_person: Callable[..., Any]) -> None:
    states(site, "availability", (NOVEMBER, "down"))
    derive_due()
    if operation == "file_dispute":
        return
    actor, rights = access_of(make_person("provider_operator", username="files", provider=site.provider))
    with scope(TEST):
        incident = Incident.objects.get(site=site)
    who: dict[str, Any] = {"actor": actor, "rights": rights}
    made = file_dispute(**who, incident=incident, cause="third_party", text="a digger")
    attach_file(**who, dispute=made, name="proof.pdf", body=b"%PDF-1.7")


def _report(operation: str, site: Site) -> None:
    begin = datetime(2025, 1, 1, tzinfo=UTC)
    tenures(site, (site.provider, begin, None))
    states(site, "availability", (begin, "unknown"))
    terms = [objective(scope="pooled", burden="open")]
    made = make_contract(segment(site.provider, begins=begin.isoformat(), objectives=terms))
    if operation in {"make_report", "create_report_schedule"}:
        return
    if operation.endswith(("schedule", "mails", "schedules")):
        desk = {"provider": site.provider.slug, "address": "desk@ours.example"}
        values = {"contract": "shops", "each": "month", "lives": ["final"], "recipients": [desk]}
        save_schedule(actor=TEST, rights=everything(), values=values)
    with scope(TEST):
        contract = made.contract
    ask_for_report(actor=TEST, rights=everything(), contract=contract, period="2025-01")
    make_wanted()
    if operation == "report_file":
        with TemporaryDirectory() as folder, signer_of_files(Path(folder)):
            make_files()
