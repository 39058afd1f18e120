"""Reports: every figure from small facts; final after the grace; restated to the second; each side its own part."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from importlib import import_module
from typing import Any

import pytest
from django.db import connections, transaction

from fleet.kit.clock import database_now
from fleet.kit.errors import Conflict, Invalid, NotAllowed, NotFound
from fleet.kit.tenancy import scope
from sites.models import Site
from slas.engine import Totals
from slas.models import Contract, Incident, Report, ReportPart, ReportRevision
from slas.periods import PeriodError, begin_of, month_of, month_text, span_of
from slas.reporting.counted import Cap
from slas.reporting.paper import Paper, digest, dump, load, parts_of, says_the_same
from slas.selectors.reports import Told, get_report, reports_in, revision_of, trend_of
from slas.services import report_making
from slas.services.deriving import derive_due
from slas.services.incidents import correct_cause
from slas.services.report_making import keep_reports, make_one, make_wanted
from slas.services.reports import ask_for_report, decide_figure
from tests.conftest import everything
from tests.database import OWNER, rows, value
from tests.slas.factories import TEST, interval, make_contract, objective, segment, states, tenures
from tests.slas.test_exports import paper
from tests.slas.test_figures import window

H = 3_600_000
THIS = month_of(datetime.now(UTC), "UTC")
LAST = month_text(THIS - 1)
BEGIN, END = begin_of(THIS - 1, "UTC"), begin_of(THIS, "UTC")
MONTH = (END - BEGIN) // timedelta(milliseconds=1)
TIERS = {"tiers": [{"below": "99.5", "credit": "5"}, {"below": "98", "credit": "25"}]}


def at(day: float, hour: float = 0) -> datetime:
    return BEGIN + timedelta(days=day - 1, hours=hour)


@pytest.fixture
def promised(make_provider: Any, make_site: Any, settings: Any, database: Any) -> tuple[Any, Any]:
    """Two providers since last month. The first one's site was down for 15 hours and unknown for 2; final at once."""
    settings.REPORT_GRACE_H = 0
    bad, good = make_provider("bad", name="Bad Hosting"), make_provider("good", name="Good Hosting")
    changes = [(at(3), "down"), (at(3, 15), "up"), (at(9), "unknown"), (at(9, 2), "up")]
    for provider in (bad, good):
        site = make_site(f"{provider.slug}-site", provider)
        tenures(site, (provider, BEGIN, None))
        states(site, "availability", (BEGIN, "up"), *(changes if provider is bad else []))
        states(site, "reachability", (BEGIN, "reachable"))
    promise = {"begins": BEGIN.isoformat(), "objectives": [objective(scope="pooled", credits=TIERS)]}
    made = make_contract(segment(bad, **promise), segment(good, **promise))
    rows("UPDATE slas_contractversion SET made_at = %s WHERE id = %s", [BEGIN, made.pk], using=OWNER)
    derive()
    return bad, good


def derive() -> None:
    while derive_due():
        pass


def ask(period: str = LAST, who: Any = TEST, rights: Any = None) -> Report:
    with scope(who):
        contract = Contract.objects.get()
    return ask_for_report(actor=who, rights=rights or everything(), contract=contract, period=period)


def told(report: Report, who: Any = TEST, number: int | None = None) -> Told:
    with scope(who):
        found = revision_of(report, number)
    assert found is not None
    return found


def standing(report: Report) -> Report:
    with scope(TEST):
        return Report.objects.get(pk=report.pk)


# Pure -------------------------------------------------------------------------------------------------------
def test_a_paper_is_read_as_it_was_written():
    found = paper()
    assert load(dump(found)) == found
    assert digest(dump(found)) == digest(dump(load(dump(found))))
    assert says_the_same(found, load(dump(found)))


def test_ranges_of_days_have_their_last_day():
    assert span_of("2026-11-03..2026-11-20", "UTC") == (
        datetime(2026, 11, 3, tzinfo=UTC),
        datetime(2026, 11, 21, tzinfo=UTC),
    )
    begin, end = span_of("2026-10-25..2026-10-25", "Europe/Berlin")
    assert end - begin == timedelta(hours=25)
    for odd in ("2026-11-03..2026-11-02", "2026-11-31..2026-12-01", "2020-01-01..2029-01-01", "x..y", "2026-13"):
        with pytest.raises(PeriodError):
            span_of(odd, "UTC")


def test_lists_of_reports_from_before_there_were_lines_are_moved(promised):
    report = ask()
    make_wanted()
    before = told(report).paper.places
    ranks = rows("SELECT slug, rank, verdict FROM slas_reportline ORDER BY part_id, number", using=OWNER)
    move = import_module("slas.migrations.0016_latency_and_lines_security")
    with transaction.atomic(OWNER):
        for statement in (move.BACK, "DELETE FROM slas_reportline"):
            rows(statement, using=OWNER)
    assert told(report).paper.places == ()
    with scope(TEST):
        assert all(part.data["places"] for part in ReportPart.objects.all())
    with transaction.atomic(OWNER):
        rows(move.MOVE, using=OWNER)
        rows("ALTER TABLE slas_reportline ENABLE ROW LEVEL SECURITY", using=OWNER)  # as the migration goes on
    assert told(report).paper.places == before
    assert rows("SELECT slug, rank, verdict FROM slas_reportline ORDER BY part_id, number", using=OWNER) == ranks


# Life -------------------------------------------------------------------------------------------------------
def test_the_month_that_ended_is_made_by_itself_and_says_every_figure(promised):
    assert keep_reports() == 1
    assert keep_reports() == 0
    assert make_wanted() == 1
    with scope(TEST):
        (report,) = reports_in(TEST)
    found = told(report)
    assert (report.period, report.state, found.revision.number) == (LAST, "final", 1)
    assert [part.provider.slug for part in found.parts] == ["bad", "good"]
    bad, good = found.paper.promises
    assert bad.totals == Totals(MONTH, 0, 2 * H, 15 * H, 0, MONTH - 17 * H)
    assert bad.shares.floor == Fraction(MONTH - 17 * H, MONTH)
    assert bad.shares.ceiling == Fraction(MONTH - 15 * H, MONTH)
    assert (bad.verdict, good.verdict) == ("MISSED", "MET")
    assert bad.credit == (Decimal("300.00") if bad.shares.floor < Fraction(98, 100) else Decimal("60.00"))
    (lost,) = found.paper.lost
    assert (lost.slug, lost.begin, lost.end, lost.lasted_ms) == ("bad-site", at(3), at(3, 15), 15 * H)
    assert [(one.slug, one.totals.down_ms) for one in found.paper.places] == [("bad-site", 15 * H), ("good-site", 0)]
    own = parts_of(found.paper, ["Bad Hosting"])["Bad Hosting"]
    assert found.parts[0].sha256 == digest(dump(own))


def test_it_is_provisional_until_the_grace_is_over(promised, settings):
    settings.REPORT_GRACE_H = 8784
    report = ask()
    assert make_wanted() == 1
    assert standing(report).state == "provisional"
    assert keep_reports() == 0
    settings.REPORT_GRACE_H = 0
    assert keep_reports() == 1
    make_wanted()
    assert [(one.number, one.state) for one in revisions(report)] == [(2, "final"), (1, "provisional")]


def revisions(report: Report) -> list[ReportRevision]:
    with scope(TEST):
        return list(ReportRevision.objects.filter(report=report).order_by("-number"))


def test_what_says_the_same_makes_no_revision(promised):
    report = ask()
    make_wanted()
    ask()
    assert make_wanted() == 1
    assert len(revisions(report)) == 1
    assert standing(report).wanted_at is None


def test_a_late_journal_restates_it_to_the_second(promised):
    report = ask()
    make_wanted()
    rows("UPDATE slas_report SET looked_at = now() - interval '1 hour', due_at = NULL", using=OWNER)
    assert keep_reports() == 0
    with scope(TEST):
        site = Incident.objects.get().site
    now = database_now()
    # The journal says: of the two unknown hours the first 1,234 s were down.
    rows(
        "UPDATE edge_sites_stateinterval SET superseded_at = %s WHERE site_id = %s AND state = 'unknown'",
        [now, site.pk], using=OWNER,
    )  # fmt: skip
    middle = at(9) + timedelta(seconds=1234)
    interval(site, "availability", "down", at(9), middle, source="journal", recorded=now, closed=now)
    interval(site, "availability", "up", middle, at(9, 2), source="journal", recorded=now, closed=now)
    derive()
    assert keep_reports() == 1
    make_wanted()
    found = told(report)
    assert (found.revision.number, found.revision.state) == (2, "restated")
    assert found.causes == ["Facts that came later: bad-site."]
    diff, other = found.parts[0].diff, found.parts[1].diff
    gained = {"unknown": -7_200_000, "down": 1_234_000, "up": 5_966_000}
    assert [one["ms"] for one in diff["promises"]] == [gained]
    assert [(one["slug"], one["ms"]) for one in diff["sites"]] == [("bad-site", gained)]
    assert other == {"causes": [], "promises": [], "sites": [], "counted": [], "offers": []}
    assert told(report, number=1).paper.promises[0].totals.unknown_ms == 2 * H  # it stays readable


def test_a_corrected_cause_restates_it_with_its_reason(promised):
    report = ask()
    make_wanted()
    rows("UPDATE slas_report SET looked_at = now() - interval '1 hour', due_at = NULL", using=OWNER)
    with scope(TEST):
        incident = Incident.objects.get()
    correct_cause(actor=TEST, rights=everything(), incident=incident, cause="workload", reason="our own update")
    assert keep_reports() == 1
    make_wanted()
    found = told(report)
    assert found.causes == [f"The cause of outage {incident.pk} at bad-site was corrected: our own update"]
    assert found.parts[0].diff["promises"][0]["ms"] == {"excluded": 15 * H, "down": -15 * H}
    bare = {one.kind: one for one in found.paper.promises[0].without}
    assert bare.keys() == {"causes", "all"}
    assert bare["causes"].shares.ceiling == Fraction(MONTH - 15 * H, MONTH)


def test_asked_for_twice_at_once_it_is_made_once(promised):
    def one(_: int) -> int:
        try:
            return ask().pk
        finally:
            connections.close_all()

    def make(pk: int) -> bool:
        try:
            return make_one(pk)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        (pk,) = set(pool.map(one, range(4)))
        list(pool.map(make, [pk] * 4))
    make_wanted()
    assert value("SELECT count(*) FROM slas_reportrevision", using=OWNER) == 1
    assert value("SELECT count(*) FROM kit_auditentry WHERE action = 'report.make'", using=OWNER) == 1


def test_what_a_killed_worker_began_is_made_anew(promised, monkeypatch):
    report = ask()
    with monkeypatch.context() as patch:
        patch.setattr(report_making, "paper_of", _killed)
        with pytest.raises(KeyboardInterrupt):
            make_wanted()
    assert standing(report).started_at is not None
    assert make_wanted() == 1
    assert standing(report).state == "final"


def test_one_that_kills_its_worker_each_time_holds_up_no_other(promised, monkeypatch):
    ask()
    with monkeypatch.context() as patch:
        patch.setattr(report_making, "paper_of", _killed)
        with pytest.raises(KeyboardInterrupt):
            make_wanted(1)
    other = ask(f"{BEGIN:%Y-%m-%d}..{BEGIN:%Y-%m-%d}")
    assert make_wanted(1) == 1
    assert standing(other).state == "final"


def _killed(*_: Any, **__: Any) -> Paper:
    raise KeyboardInterrupt


def test_what_cannot_be_made_says_so_and_does_not_stay_wanted(promised, monkeypatch):
    report = ask()
    with monkeypatch.context() as patch:
        patch.setattr(report_making, "paper_of", _broken)
        assert make_wanted() == 1
    assert "could not be made" in standing(report).problem
    assert make_wanted() == 0
    ask()
    assert make_wanted() == 1
    assert standing(report).problem == ""


def _broken(*_: Any, **__: Any) -> Paper:
    raise RuntimeError("odd")


@pytest.mark.parametrize("period", ["", "2026-13", "2999-01", "1999-01", "2026-11-09..2026-11-01"])
def test_an_odd_period_is_refused(promised, period):
    with pytest.raises(Invalid):
        ask(period)


def test_a_trend_has_the_months_until_then(promised):
    report = ask()
    ask(f"{BEGIN:%Y-%m-%d}..{BEGIN:%Y-%m-%d}")
    make_wanted()
    with scope(TEST):
        assert [(period, [one.verdict for one in found]) for period, found in trend_of(report)] == [
            (LAST, ["MISSED", "MET"])
        ]


# Decisions --------------------------------------------------------------------------------------------------
@pytest.fixture
def undecided(make_provider: Any, make_site: Any, settings: Any, database: Any) -> Report:
    settings.REPORT_GRACE_H = 0
    provider = make_provider("open", name="Open Hosting")
    site = make_site("open-site", provider)
    tenures(site, (provider, BEGIN, None))
    states(site, "availability", (BEGIN, "up"), (at(9), "unknown"), (at(10), "up"))
    terms = [objective(scope="pooled", burden="open", credits=TIERS)]
    made = make_contract(segment(provider, begins=BEGIN.isoformat(), objectives=terms))
    rows("UPDATE slas_contractversion SET made_at = %s WHERE id = %s", [BEGIN, made.pk], using=OWNER)
    report = ask()
    make_wanted()
    return standing(report)


def decide(report: Report, figure: object = "97", *, rights: Any = None, who: Any = TEST, **values: Any) -> Any:
    fixed = {"provider": "open", "measure": "availability", "reason": "we agreed by telephone"} | values
    return decide_figure(actor=who, rights=rights or everything(), report=report, figure=figure, **fixed)


def test_a_manager_decides_what_the_facts_leave_open(undecided):
    assert told(undecided).paper.promises[0].verdict == "UNDETERMINED"
    assert told(undecided).paper.promises[0].credit == 0
    decide(undecided)
    make_wanted()
    found = told(undecided)
    assert (found.paper.promises[0].verdict, found.paper.promises[0].credit) == ("MISSED", Decimal("300.00"))
    assert found.causes == ["A decision on availability: we agreed by telephone"]
    assert found.paper.decided[0].figure == Fraction(97, 100)
    decide(undecided, "99.5")  # the newest counts
    make_wanted()
    assert told(undecided).paper.promises[0].verdict == "MET"


@pytest.mark.parametrize("figure", ["101", "-1", "x", "NaN", "1e99999", "99.12345", None])
def test_an_odd_figure_is_refused(undecided, figure):
    with pytest.raises(Invalid):
        decide(undecided, figure)


def test_what_is_settled_is_not_decided(promised):
    report = ask()
    make_wanted()
    with pytest.raises(Conflict):
        decide(report, provider="bad")
    with pytest.raises(NotFound):
        decide(report, provider="nobody")


# Maintenance over its cap -----------------------------------------------------------------------------------
def test_maintenance_over_its_cap_is_said_and_counts(promised, make_person):
    """Of two windows of 6 h and 4 h, 8 h are honoured: the site was down in all of the second, of which 2 h count."""
    site = Site.objects.using(OWNER).get(slug="bad-site")
    make_person("operator")
    for begin, end in ((at(2), at(2, 6)), (at(3, 11), at(3, 15))):
        window(site, begin, end, requested_at=BEGIN, decided_at=BEGIN)
    upkeep = {"counts": "excluded", "notice_h": "0", "cap_h": "8", "cap_per": "month"}
    rows("UPDATE slas_segment SET terms = jsonb_set(terms, '{maintenance}', %s)", [json.dumps(upkeep)], using=OWNER)
    report = ask()
    make_wanted()
    found = told(report)
    (cap,) = found.paper.caps
    assert cap == Cap("Bad Hosting", Decimal(8), "month", 8 * H, 2 * H, 1)
    assert found.paper.promises[0].totals == Totals(MONTH, 8 * H, 2 * H, 13 * H, 0, MONTH - 23 * H)


# Who --------------------------------------------------------------------------------------------------------
def test_who_may_not_is_refused(undecided, access):
    for role in ("viewer", "provider_operator", "provider_viewer"):
        extra = {"provider": told(undecided).parts[0].provider} if "prov" in role else {}
        who, rights = access(role, **extra)
        with pytest.raises(NotAllowed):
            ask(who=who, rights=rights)
        with pytest.raises(NotAllowed):
            decide(undecided, who=who, rights=rights)
    who, rights = access("operator")
    assert ask(who=who, rights=rights).pk == undecided.pk
    with pytest.raises(NotAllowed):
        decide(undecided, who=who, rights=rights)


def test_a_provider_sees_its_own_part_and_no_other(promised, access):
    report = ask()
    make_wanted()
    who, _ = access("provider_operator", provider=promised[1])
    found = told(report, who)
    assert {one.provider for one in (*found.paper.promises, *found.paper.places)} == {"Good Hosting"}
    assert not found.paper.lost
    with scope(who):
        assert {part.provider_id for part in ReportPart.objects.all()} == {promised[1].pk}


def test_who_has_nothing_in_it_sees_no_report(promised, access, make_provider):
    report = ask()
    make_wanted()
    outsiders = [access("provider_viewer", provider=make_provider("other")), access("manager", regions=["DACH"])]
    for who, _ in outsiders:
        with scope(who), pytest.raises(NotFound):
            get_report(scope=who, pk=report.pk)
