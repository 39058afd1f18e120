"""Version synchronisation from what rollouts record: real services play it, and each figure is derived by hand."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from django.db import transaction

from fleet.kit.clock import database_now
from fleet.kit.tenancy import scope
from fleet.people.selectors import access_of
from fleet.rollouts.models import Rollout
from fleet.rollouts.selectors.offers import offers_of
from fleet.rollouts.services import control, holds
from fleet.rollouts.services.ticking import tick
from sites.models import DesiredDocument
from slas.exports.vectors import sync_vectors_of
from slas.models import Contract
from slas.offers import Offer
from slas.selectors.offer_evidence import offer_evidence
from slas.selectors.reports import revision_of
from slas.selectors.version_sync import Synced, version_sync_of
from slas.services.report_making import make_wanted
from slas.services.reports import ask_for_report
from slas.version_sync import Owner
from tests.conftest import TEST, everything
from tests.database import OWNER, rows
from tests.fleet.rollouts.played import Played
from tests.slas.factories import make_contract, objective, segment

pytestmark = pytest.mark.usefixtures("database")
Play = Callable[..., Played]
H = 3_600_000


@pytest.fixture
def nord(make_provider: Any) -> Any:
    return make_provider("nord")


@pytest.fixture
def play(make_site: Any, make_person: Any, nord: Any) -> Play:
    """Factory of planned rollouts of so many sites of one provider."""
    return lambda *waves, **plan: Played(make_site, make_person, waves, provider=nord, **plan)


def offers(it: Played, as_of: datetime | None = None) -> list[Offer]:
    with scope(TEST):
        return offers_of([site.pk for site in it.sites], as_of or database_now())


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000) // 1000


def ours(offer: Offer) -> list[tuple[int, int, Owner]]:
    return [span for span in offer.spans if span[1] - span[0] > 0]


def events(it: Played, **which: Any) -> list[datetime]:
    with scope(TEST):
        return list(
            Rollout.objects.get(pk=it.rollout.pk).events.filter(**which).order_by("pk").values_list("at", flat=True)
        )


def test_sent_with_its_first_byte_and_proven_by_the_exact_set(play: Play) -> None:
    it = play(2).run()
    before = database_now()
    it.applied(0)
    tick()
    done, waits = offers(it)
    assert (done.standard, done.offered, done.published) == (
        it.standard.name, ms(it.now().started_at), ms(it.standard.published_at),
    )  # fmt: skip
    assert done.offered <= ms(before) <= done.sent <= done.proven <= ms(database_now())
    assert (waits.proven, waits.spans) == (None, ())
    early = offers(it, before)
    assert [(one.sent, one.proven) for one in early] == [(None, None)] * 2
    assert offers(it, it.now().started_at - timedelta(milliseconds=1)) == []


def test_each_offer_names_what_tells_of_it(play: Play) -> None:
    it = play(2).run()
    it.applied(0)
    tick()
    done, waits = (one.origin for one in offers(it))
    with scope(TEST):
        event = it.now().events.get(step=it.step(0), event="settle").pk
        first = DesiredDocument.objects.get(site=it.sites[0], content__standard__id=it.standard.pk).pk
    assert (done.rollout, done.step, done.document) == (it.rollout.pk, it.step(0).pk, first)
    assert (waits.rollout, waits.step, waits.event, waits.components) == (it.rollout.pk, it.step(1).pk, None, None)
    assert (done.event, done.components) == (event, None)
    assert offers(it, it.now().started_at)[0].origin.document is None


def test_a_provider_reads_in_its_report_what_became_of_its_sites(play: Play, nord: Any, access: Any) -> None:
    it = play(1).run()
    it.applied(0)
    tick()
    promised(it)
    shift(it, published=6, sent=1.5)
    with scope(TEST):
        contract = Contract.objects.get()
    begin = datetime.now(UTC) - timedelta(days=20)
    period = f"{begin:%Y-%m-%d}..{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}"
    rows("UPDATE slas_contractversion SET made_at = %s", [begin - timedelta(days=1)], using=OWNER)
    report = ask_for_report(actor=TEST, rights=everything(), contract=contract, period=period)
    assert make_wanted() == 1
    who, _ = access("provider_viewer", provider=nord)
    with scope(who):
        told = revision_of(report)
    assert told is not None
    (line,) = told.paper.synced
    (one,) = told.paper.offered
    assert (line.on_time, line.share, line.verdict) == (1, 1, "MET")
    assert (one.slug, one.standard, one.outcome, one.rollout) == (
        it.sites[0].slug, it.standard.name, "on_time", it.rollout.pk,
    )  # fmt: skip
    with scope(TEST):
        (proof,) = offer_evidence(told.paper.offered)
        document = DesiredDocument.objects.get(pk=one.document)
    assert (proof["site"], proof["step"], proof["receipt"]) == (one.slug, one.step, None)
    assert proof["document"]["sha256"] == document.sha256 != ""
    (vector,) = sync_vectors_of(told.paper.offered, "of")
    assert (vector["expect"]["charged_ms"], vector["expect"]["verdict"]) == (one.charged_ms, "on_time")


def test_what_only_absence_keeps_counts_as_sent(play: Play) -> None:
    it = play(2)
    it.dark(0)
    it.run()
    assert it.states().startswith("catch_up")
    (since,) = events(it, step=it.step(0), event="leave_behind")
    away, asked = offers(it)
    assert away.sent == ms(since)
    assert asked.sent is None


def test_a_pause_is_the_operators_until_it_ends(play: Play) -> None:
    it = play(1).run()
    it.sign()
    it.do(control.pause, reason="wait")
    (paused,) = events(it, thing="rollout", event="pause")
    (going_on,) = offers(it)
    assert [span[0] for span in ours(going_on)] == [ms(paused)]
    it.do(control.resume)
    (resumed,) = events(it, thing="rollout", event="resume")
    assert ours(offers(it)[0]) == [(ms(paused), ms(resumed), Owner.OPERATOR)]


def test_a_hold_is_whose_it_is(play: Play, nord: Any, make_person: Any) -> None:
    it = play(2)
    until = database_now() + timedelta(hours=5)
    theirs = access_of(make_person("provider_operator", provider=nord))
    held = holds.hold(actor=theirs[0], rights=theirs[1], reason="stocktaking", until=until, site=it.sites[0])
    own = holds.hold(actor=it.author[0], rights=it.author[1], reason="not now", until=until, site=it.sites[1])
    assert (held.by_provider, own.by_provider) == (True, False)
    it.run()
    as_of = database_now()
    by_them, by_us = offers(it, as_of)
    assert (by_them.sent, ours(by_them)) == (ms(events(it, step=it.step(0), event="defer")[0]), [])
    assert (by_us.sent, ours(by_us)) == (None, [(ms(own.made_at), ms(as_of), Owner.OPERATOR)])


# Held against a contract ------------------------------------------------------------------------------------
def promised(it: Played, **values: Any) -> Callable[..., Synced]:
    """As a contract with a deadline of two hours has it; `ago`: what was hours ago, by site."""
    version = make_contract(
        segment(
            "nord",
            begins="2025-01-01T00:00",
            objectives=[objective(measure="version_sync", target="90", limit="2")],
            **values,
        )
    )

    def find(as_of: datetime) -> Synced:
        with scope(TEST):
            (found,) = version_sync_of(version.contract, as_of - timedelta(days=20), as_of, as_of)
        return found

    return find


def shift(it: Played, *, published: float, sent: float) -> datetime:
    """The standard was published, and its documents were sent, so many hours before now; sites are older."""
    now = database_now()
    born, begun, away = datetime(2025, 1, 1, tzinfo=UTC), now - timedelta(hours=published), now - timedelta(hours=sent)
    with transaction.atomic(OWNER):
        rows("SET LOCAL session_replication_role = replica", using=OWNER)  # past the guards of facts
        for table in ("edge_sites_sitetenure", "slas_sitetraits"):
            rows(f"UPDATE {table} SET valid_from = %s", [born], using=OWNER)
        rows("UPDATE edge_sites_stateinterval SET valid_from = %s, recorded_at = %s"
             " WHERE axis = 'availability' AND valid_to IS NULL", [born, born], using=OWNER)  # fmt: skip
        rows("UPDATE edge_sites_stateinterval SET valid_from = %s, recorded_at = %s"
             " WHERE state = 'unreachable' AND valid_to IS NULL", [away, away], using=OWNER)  # fmt: skip
        rows("UPDATE standards_standard SET published_at = %s", [begun], using=OWNER)
        rows("UPDATE rollouts_rollout SET started_at = %s", [begun], using=OWNER)
        rows("UPDATE rollouts_rolloutevent SET at = %s WHERE event <> 'settle'", [begun], using=OWNER)
        rows("UPDATE edge_sites_desireddocument SET made_at = %s, sent_at = %s"
             " WHERE content -> 'standard' ->> 'id' = %s", [begun, away, str(it.standard.pk)], using=OWNER)  # fmt: skip
    return now


def test_late_pending_and_on_time_are_told_apart(play: Play) -> None:
    it = play(2).run()
    it.applied(0)
    tick()
    find = promised(it)
    now = shift(it, published=6, sent=1.5)
    found = find(now).found
    done, waits = found.rows
    assert (found.on_time, found.late, found.pending, found.share, found.verdict) == (1, 0, 1, 1, "MET")
    assert waits.split.operator_ms == round(4.5 * H)
    assert waits.split.charged_ms == waits.split.provider_ms == round(1.5 * H)
    assert abs(done.split.charged_ms - 1.5 * H) < 60_000
    assert found.charged[0] == done.split.charged_ms  # the other goes on, so that half have ended
    assert found.charged[1:] == (None, None)
    now = shift(it, published=6, sent=3)
    found = find(now).found
    assert (found.on_time, found.late, found.pending, found.share, found.verdict) == (0, 2, 0, Fraction(0), "MISSED")


def test_days_on_which_the_contract_freezes_changes_are_nobodys(play: Play) -> None:
    """Sent three hours ago, of which all that lies within the frozen days: the provider is charged for nothing."""
    it = play(1).run()
    today = datetime.now(UTC).date()
    days = {"first": str(today - timedelta(days=1)), "last": str(today + timedelta(days=1)), "name": "stocktaking"}
    find = promised(it, freezes=[days])
    now = shift(it, published=6, sent=3)
    (row,) = find(now).found.rows
    assert (row.split.freeze_ms, row.split.operator_ms, row.split.charged_ms) == (6 * H, 0, 0)
    assert row.split.verdict == "pending"


@pytest.mark.parametrize(("includes_link", "verdict"), [(False, "pending"), (True, "late")])
def test_a_site_that_is_away_is_late_only_where_the_contract_has_the_link(
    play: Play, includes_link: bool, verdict: str
) -> None:
    it = play(1).run()
    it.sign()
    it.dark(0)
    find = promised(it, includes_link=includes_link)
    now = shift(it, published=6, sent=3)
    (row,) = find(now).found.rows
    assert (row.split.network_ms, row.split.provider_ms, row.split.verdict) == (3 * H, 0, verdict)
