"""SLAs of a site whose every word is hostile: contract, window, an outage that is disputed, a report."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from fleet.kit.tenancy import scope
from fleet.people.selectors import access_of
from sites.models import Site
from slas.models import Incident
from slas.services.budgets import work_out_budgets
from slas.services.deriving import derive_due
from slas.services.disputes import attach_file, file_dispute
from slas.services.incidents import comment_incident, correct_cause
from slas.services.mailing import save_schedule
from slas.services.report_making import make_wanted
from slas.services.reports import ask_for_report
from slas.services.upkeep import request_window
from tests.conftest import TEST, everything
from tests.slas.factories import make_contract, segment


def write_slas(site: Site, hostile: Sequence[str], make_person: Callable[..., Any]) -> None:
    """Contract `hostile`, and window, outage, dispute, report and schedule 1."""
    words = " ".join(text for text in hostile if text.isprintable())  # others are refused
    now = datetime.now(UTC)
    first, gap, again = (f"{now - timedelta(days=days):%Y-%m-%dT00:00}" for days in (90, 70, 60))
    version = make_contract(
        segment(site.provider, begins=first, ends=gap),
        segment(site.provider, begins=again, gap_reason=words[:200]),
        slug="hostile",
    )
    person = make_person("provider_operator", username="<probe>provider", provider=site.provider)
    manager = access_of(make_person("manager", username="<probe>manager"))
    who = dict(zip(("actor", "rights"), access_of(person), strict=True))
    boss = dict(zip(("actor", "rights"), manager, strict=True))
    soon = now + timedelta(days=9)
    request_window(**who, sites=[site.slug], title=words[:100], begins=soon, ends=soon + timedelta(hours=1))
    derive_due()
    with scope(TEST):
        incident = Incident.objects.filter(site=site).order_by("pk").first()
    assert incident is not None
    assert incident.pk == 1
    comment_incident(**boss, incident=incident, text=words)
    correct_cause(**boss, incident=incident, cause="power", reason=words[:290])
    claim = file_dispute(**who, incident=incident, cause="third_party", text=words)
    attach_file(**who, dispute=claim, name=hostile[0], body=words.encode())
    with scope(TEST):
        contract = version.contract
    desk = {"provider": site.provider.slug, "name": words[:100], "address": "desk@probe.example"}
    values = {"contract": "hostile", "each": "month", "lives": ["provisional"], "recipients": [desk]}
    save_schedule(**boss, values=values)
    ask_for_report(actor=TEST, rights=everything(), contract=contract, period=f"{now:%Y-%m}")
    make_wanted()
    work_out_budgets()
