"""Providers are kept apart in every table of SLAs, by PostgreSQL itself, whatever the code above asks for."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import ProgrammingError, transaction

from fleet.kit.tenancy import NOBODY, Scope, scope
from slas.models import Contract, Finding, Incident, IncidentNote, Window, WindowSite
from slas.services.budgets import work_out_budgets
from slas.services.deciding import decide_dispute
from slas.services.deriving import derive_due
from slas.services.disputes import attach_file, file_dispute
from slas.services.incidents import acknowledge_incident, correct_cause
from slas.services.mailing import save_schedule
from slas.services.report_making import make_wanted
from slas.services.reports import ask_for_report
from slas.services.scorecards import keep_scorecards
from slas.services.upkeep import request_window
from tests.conftest import everything
from tests.database import OWNER, rows, value
from tests.slas.factories import NOVEMBER, TEST, make_contract, segment, states

TABLES = [
    *("slas_contract", "slas_contractversion", "slas_segment", "slas_sitetraits"),
    *("slas_incident", "slas_incidentspan", "slas_finding", "slas_incidentnote", "slas_dueincidents"),
    *("slas_window", "slas_windowsite", "slas_scorecard", "slas_budget", "slas_burnalert"),
    *("slas_dispute", "slas_disputestep", "slas_disputefile", "slas_adjustment"),
    *("slas_report", "slas_reportrevision", "slas_reportpart", "slas_reportline", "slas_reportfile", "slas_decision"),
    *("slas_latencyday", "slas_sitesync"),
    *("slas_mailschedule", "slas_mailrecipient", "slas_maildelivery", "slas_outboxevent"),
]
JOINED = {"slas_contract", "slas_contractversion", "slas_incident", "slas_report", "slas_reportrevision"}
JOINED |= {"slas_mailschedule"}


@pytest.fixture
def two(make_provider: Any, make_site: Any, access: Any) -> tuple[Any, Any]:
    """Both providers have everything: a contract, an outage with a cause and a note, a window."""
    both = make_provider("nord"), make_provider("sued")
    manager = access("manager")
    for provider in both:
        make_contract(segment(provider), slug=f"with-{provider.slug}")
        site = make_site(f"{provider.slug}-site", provider)
        states(site, "availability", (NOVEMBER, "down"))
        derive_due()
        with scope(TEST):
            incident = Incident.objects.get(site=site)
        acknowledge_incident(actor=manager[0], rights=manager[1], incident=incident)
        correct_cause(actor=manager[0], rights=manager[1], incident=incident, cause="power", reason="it was dark")
        begins = datetime.now(UTC) + timedelta(days=9)
        person = access("provider_operator", provider=provider)
        who = {"actor": person[0], "rights": person[1]}
        claim = file_dispute(**who, incident=incident, cause="third_party", text="a digger")
        attach_file(**who, dispute=claim, name="a.txt", body=b"a digger")
        decide_dispute(actor=manager[0], rights=manager[1], dispute=claim, decision="accepted", reason="so it was")
        request_window(
            actor=person[0], rights=person[1], sites=[site.slug], title="fans", begins=begins,
            ends=begins + timedelta(hours=1),
        )  # fmt: skip
    keep_scorecards()
    work_out_budgets()
    with scope(TEST):
        contracts = list(Contract.objects.all())
    for contract in contracts:
        desk = {"provider": contract.slug.removeprefix("with-"), "address": f"desk@{contract.slug}.example"}
        values = {"contract": contract.slug, "each": "month", "lives": ["provisional"], "recipients": [desk]}
        save_schedule(actor=manager[0], rights=manager[1], values=values)
        ask_for_report(actor=TEST, rights=everything(), contract=contract, period="2026-11")
    make_wanted()
    rows(
        "INSERT INTO slas_decision (report_id, provider_id, measure, figure, reason, made_by, at)"
        " SELECT r.report_id, p.provider_id, 'availability', 99, 'said', 'test', now()"
        " FROM slas_reportpart p JOIN slas_reportrevision r ON r.id = p.revision_id",
        using=OWNER,
    )
    rows(
        "INSERT INTO slas_burnalert (contract_id, segment_id, provider_id, measure, pair, short_ms, long_ms, threshold,"
        " rate_short, rate_long, began_at) SELECT contract_id, id, provider_id, 'availability', 0, 1, 2, 3, 4, 5, now()"
        " FROM slas_segment",
        using=OWNER,
    )
    rows(
        "INSERT INTO slas_latencyday (site_id, provider_id, hours, begins, ends, polls, rtt_ms, counts, seen_ms,"
        " scheduled_ms) SELECT id, provider_id, '', now(), now() + interval '1 day', 1, '{5}', '{1}', 1, 1"
        " FROM edge_sites_site",
        using=OWNER,
    )
    rows(
        "INSERT INTO slas_sitesync (site_id, contract_id, provider_id, standard, data)"
        " SELECT i.id, g.contract_id, i.provider_id, 'r1', '{}'"
        " FROM edge_sites_site i JOIN slas_segment g ON g.provider_id = i.provider_id",
        using=OWNER,
    )
    rows(
        "INSERT INTO slas_dueincidents (site_id, provider_id, since)"
        " SELECT id, provider_id, now() FROM edge_sites_site",
        using=OWNER,
    )
    return both


def of(provider: Any) -> Scope:
    return Scope(name="somebody", providers=frozenset({provider.pk}))


def test_the_list_above_names_every_table_with_rows_of_providers(database):
    query = """
        SELECT relname FROM pg_class WHERE relname LIKE 'slas\\_%%' AND relkind = 'r' AND relrowsecurity ORDER BY 1
    """
    assert [name for (name,) in rows(query, using=OWNER)] == sorted(TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_each_sees_its_own_rows_and_no_others(two, table):
    everything = value(f"SELECT count(*) FROM {table}", using=OWNER)
    found = []
    for provider in two:
        with scope(of(provider)):
            found.append({pk for (pk,) in rows(f"SELECT id FROM {table}")})
            if table not in JOINED:
                assert rows(f"SELECT DISTINCT provider_id FROM {table}") == [(provider.pk,)]
    assert all(found)
    assert not found[0] & found[1]
    assert len(found[0] | found[1]) == everything
    for nobody in (NOBODY, Scope(name="gone", providers=frozenset({10**6}))):
        with scope(nobody):
            assert value(f"SELECT count(*) FROM {table}") == 0


def test_nobody_writes_in_anothers_name(two):
    nord, sued = two
    with scope(TEST):
        theirs = {model: model.objects.get(provider=sued) for model in (Finding, IncidentNote, Window, WindowSite)}
    with scope(of(nord)):
        for row in theirs.values():
            row.pk = None
            with pytest.raises(ProgrammingError, match="row-level security"), transaction.atomic():
                row.save(force_insert=True)
        assert Window.objects.filter(provider=sued).update(title="mine") == 0
    assert value("SELECT count(*) FROM slas_window WHERE title = 'mine'", using=OWNER) == 0
