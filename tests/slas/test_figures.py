"""Figures from the database, each derived by hand: what is read, what is known when, and what counts."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from django.db import connections
from hypothesis import given
from hypothesis import strategies as st

from fleet.kit.errors import NotFound
from fleet.kit.tenancy import Limit, Scope, scope
from slas.engine import State, Totals, Verdict
from slas.measuring import History, Result
from slas.models import CentreBlind, ContractVersion, Incident
from slas.periods import PeriodError, period_of
from slas.selectors.figures import figures_of
from slas.services.contracts import change_contract
from slas.services.deriving import derive_due
from slas.services.incidents import correct_cause
from slas.upkeep import ms
from tests.conftest import everything
from tests.database import OWNER, rows
from tests.slas.factories import (
    DECEMBER,
    NOVEMBER,
    TEST,
    agreement,
    interval,
    make_contract,
    objective,
    segment,
    states,
    tenures,
)

H = 3_600_000
MONTH = 30 * 24 * H
LATER = datetime(2100, 1, 1, tzinfo=UTC)


def at(day: float, hour: float = 0) -> datetime:
    return NOVEMBER + timedelta(days=day - 1, hours=hour)


@pytest.fixture
def nord(make_provider: Any) -> Any:
    return make_provider("nord")


def make(make_site: Any, provider: Any, slug: str = "own", *changes: tuple[datetime, str], **values: Any) -> Any:
    """A site that its provider has had since long ago, with this history of its own state."""
    site = make_site(slug, provider, **values)
    tenures(site, (provider, datetime(2020, 1, 1, tzinfo=UTC), None))
    states(site, "availability", (datetime(2025, 1, 1, tzinfo=UTC), "up"), *changes)
    return site


def results(version: ContractVersion, as_of: datetime = LATER, who: Scope = TEST, **values: Any) -> list[Result]:
    with scope(who):
        span = (values.pop("begin", NOVEMBER), values.pop("end", DECEMBER))
        return list(figures_of(version.contract, *span, as_of, **values).results)


def only(version: ContractVersion, as_of: datetime = LATER, **values: Any) -> Result:
    (found,) = results(version, as_of, **values)
    return found


# Histories and periods, pure --------------------------------------------------------------------------------
def test_what_is_not_recorded_is_not_known():
    history = History([10, 30], [20, 40], "ud", "-y")
    assert history.changes() == [(10, State.UP), (20, State.UNKNOWN), (30, State.DOWN), (40, State.UNKNOWN)]
    assert history.spoken_for(100) == [(30, 40)]
    assert History([10, 20], [20, None], "rx", "--").changes() == [(10, State.UP), (20, State.DOWN)]
    assert History([10, 10, 10], [10, 11, None], "udu", "---").changes() == [(10, State.DOWN), (11, State.UP)]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9), st.sampled_from("ugdn")), max_size=10))
def test_whatever_is_recorded_no_two_states_are_at_one_instant(parts):
    parts = sorted(parts)
    history = History([b for b, _, _ in parts], [b + s for b, s, _ in parts], "".join(c for *_, c in parts), "-" * 10)
    history = History(history.begins, history.ends, history.codes, "-" * len(parts))
    found = [moment for moment, _ in history.changes()]
    assert found == sorted(set(found))


def test_periods_begin_at_local_midnight():
    assert period_of("2026-11", "UTC") == (NOVEMBER, DECEMBER)
    begin, end = period_of("2026-10", "Europe/Berlin")
    assert (begin, end - begin) == (datetime(2026, 9, 30, 22, tzinfo=UTC), timedelta(days=31, hours=1))
    assert period_of("2026-Q4", "UTC") == (datetime(2026, 10, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    assert period_of("2026", "UTC")[1] == datetime(2027, 1, 1, tzinfo=UTC)
    for odd in ("2026-13", "2026-00", "2026-Q5", "november", "", "0026-01", "2026-1"):
        with pytest.raises(PeriodError):
            period_of(odd, "UTC")


# By hand ----------------------------------------------------------------------------------------------------
def test_a_month_with_one_outage_and_one_silence(make_site, nord):
    site = make(
        make_site, nord, "own",
        (at(5), "down"), (at(5, 3), "up"), (at(9), "unknown"), (at(9, 2), "up"), (at(29), "degraded"),
    )  # fmt: skip
    found = only(make_contract(segment("nord")))
    assert found.totals == Totals(MONTH, 0, 2 * H, 3 * H, 48 * H, MONTH - 53 * H)
    assert found.shares.floor == Fraction(715, 720)
    assert found.shares.ceiling == Fraction(717, 720)
    assert found.shares.measured == Fraction(715, 718)
    assert [(row.site_id, row.slug, row.totals) for row in found.sites] == [(site.pk, "own", found.totals)]
    # Unknown counts as down under the provider's burden: 99.305 % is below 99.5 %.
    assert (found.settled.verdict, found.verdict) == (Verdict.MISSED, Verdict.MISSED)


def test_a_hand_over_on_the_16th_gives_each_its_own_share(make_site, make_provider, nord):
    sued = make_provider("sued")
    site = make_site("moves", nord)
    tenures(site, (nord, at(1, -500), at(16)), (sued, at(16), None))
    states(site, "availability", (at(1, -500), "up"))
    rows("UPDATE edge_sites_stateinterval SET valid_to = %s, closed_at = %s WHERE axis = 'availability'",
         [at(15, 20), at(15, 20)], using=OWNER)  # fmt: skip
    interval(site, "availability", "down", at(15, 20), at(16), provider=nord)
    interval(site, "availability", "down", at(16), at(16, 6), provider=sued)
    interval(site, "availability", "up", at(16, 6), None, provider=sued)
    version = make_contract(segment("nord"), segment("sued"))
    first, second = results(version)
    assert first.totals == Totals(15 * 24 * H, 0, 0, 4 * H, 0, 15 * 24 * H - 4 * H)
    assert second.totals == Totals(15 * 24 * H, 0, 0, 6 * H, 0, 15 * 24 * H - 6 * H)
    for provider, mine in ((nord, first), (sued, second)):
        own = Scope(name="p", providers=frozenset({provider.pk}), limits=(Limit(provider_id=provider.pk),))
        assert [one.totals for one in results(version, who=own)] == [mine.totals]
    derive_due()
    with scope(TEST):
        assert Incident.objects.filter(site=site, kind="down").count() == 1


def test_service_hours_across_a_switch_of_clocks(make_site, nord):
    # Berlin leaves summer time on 25 October 2026; 02:30 UTC on the 26th (a Monday) is before hours either way.
    make(
        make_site, nord, "own",
        (datetime(2026, 10, 26, 2, 30, tzinfo=UTC), "down"), (datetime(2026, 10, 26, 9, tzinfo=UTC), "up"),
    )  # fmt: skip
    weekly = {day: [["09:00", "17:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}
    version = make_contract(
        segment("nord", begins="2026-01-01T00:00", calendar={"timezone": "Europe/Berlin", "weekly": weekly}),
        zone="Europe/Berlin",
    )
    begin, end = period_of("2026-10", "Europe/Berlin")
    found = only(version, begin=begin, end=end)
    # 22 working days of eight hours; on the 26th, hours begin at 08:00 UTC, so one of them was lost.
    assert found.totals == Totals(22 * 8 * H, 0, 0, H, 0, 22 * 8 * H - H)


def test_a_site_under_a_segment_for_a_part_of_the_time_is_measured_for_that_part(make_site, nord):
    make(make_site, nord, "own", (at(20), "down"))
    version = make_contract(segment("nord", begins="2026-11-10T00:00", ends="2026-11-21T00:00"))
    assert only(version).totals == Totals(11 * 24 * H, 0, 0, 24 * H, 0, 10 * 24 * H)


def test_a_site_is_measured_while_it_is_active(make_site, nord):
    """It began on the 10th, was retired on the 20th, and another one was planned and never began."""
    site = make(make_site, nord, "own", (at(10), "unknown"), (at(10, 1), "up"), (at(12), "down"), (at(12, 2), "up"))
    rows("SET session_replication_role = replica", using=OWNER)
    rows("DELETE FROM edge_sites_stateinterval WHERE site_id = %s AND valid_from < %s", [site.pk, at(1)], using=OWNER)
    rows("SET session_replication_role = DEFAULT", using=OWNER)
    rows("UPDATE edge_sites_stateinterval SET valid_to = %s, closed_at = %s WHERE valid_to IS NULL AND site_id = %s"
         " AND axis = 'availability'", [at(20), at(20), site.pk], using=OWNER)  # fmt: skip
    planned = make_site("planned", nord, life="planned")
    tenures(planned, (nord, datetime(2020, 1, 1, tzinfo=UTC), None))
    both = [objective(), objective(measure="reachability")]
    available, reachable = results(make_contract(segment("nord", objectives=both)))
    ten = 10 * 24 * H
    assert available.totals == Totals(ten, 0, H, 2 * H, 0, ten - 3 * H)
    assert reachable.totals == Totals(ten, 0, ten, 0, 0, 0)  # nobody ever reached it
    assert [row.settled.verdict for row in available.sites if row.slug == "planned"] == [None]


def test_what_has_not_been_yet_is_not_measured(make_site, nord):
    make(make_site, nord, "own", (at(2), "down"), (at(2, 1), "up"))
    version = make_contract(segment("nord"))
    rows("UPDATE slas_contractversion SET made_at = '2020-01-01'", using=OWNER)
    assert only(version, at(3)).totals == Totals(48 * H, 0, 0, H, 0, 47 * H)
    assert results(version, NOVEMBER) == []
    with pytest.raises(NotFound):
        results(version, datetime(2019, 1, 1, tzinfo=UTC))


def test_figures_are_as_known_then(make_site, nord):
    """An outage that lasted at the time is closed later, and a journal corrects it later still."""
    site = make_site("own", nord)
    tenures(site, (nord, datetime(2020, 1, 1, tzinfo=UTC), None))
    states(site, "availability", (at(1, -9), "up"))
    rows("UPDATE edge_sites_stateinterval SET valid_to = %s, closed_at = %s WHERE axis = 'availability'",
         [at(2), at(2)], using=OWNER)  # fmt: skip
    interval(site, "availability", "unknown", at(2), at(4), closed=at(4), superseded=at(8))
    interval(site, "availability", "up", at(4), None)
    interval(site, "availability", "up", at(2), at(3), recorded=at(8), closed=at(8), source="journal")
    interval(site, "availability", "down", at(3), at(4), recorded=at(8), closed=at(8), source="journal")
    version = make_contract(segment("nord"))
    rows("UPDATE slas_contractversion SET made_at = '2020-01-01'", using=OWNER)
    day = 24 * H
    assert only(version, at(3)).totals == Totals(2 * day, 0, day, 0, 0, day)
    assert only(version, at(5)).totals == Totals(4 * day, 0, 2 * day, 0, 0, 2 * day)
    assert only(version, at(9)).totals == Totals(8 * day, 0, 0, day, 0, 7 * day)
    assert only(version, at(9), end=at(5)).totals == Totals(4 * day, 0, 0, day, 0, 3 * day)
    assert only(version, at(6), end=at(5)).totals == Totals(4 * day, 0, 2 * day, 0, 0, 2 * day)


def test_an_older_version_of_the_contract_counts_as_of_then(make_site, nord):
    make(make_site, nord)
    first = make_contract(segment("nord"))
    change_contract(
        actor=TEST, rights=everything(), contract=first.contract, expect=1, reason="a higher promise",
        agreement=agreement(segment("nord", objectives=[objective(target="99.9")])),
    )  # fmt: skip
    rows("UPDATE slas_contractversion SET made_at = %s WHERE number = 1", [at(2)], using=OWNER)
    rows("UPDATE slas_contractversion SET made_at = %s WHERE number = 2", [at(10)], using=OWNER)
    assert only(first, at(5)).objective.target == Fraction(995, 1000)
    assert only(first).objective.target == Fraction(999, 1000)


# What is excluded -------------------------------------------------------------------------------------------
def test_a_cause_that_the_contract_excludes_and_the_correction_that_takes_it_back(make_site, nord, access):
    site = make(make_site, nord, "own", (at(5), "down"), (at(5, 3), "up"), (at(7), "down"), (at(7, 1), "up"))
    derive_due()
    version = make_contract(segment("nord", excluded_causes=["third_party"]))
    with scope(TEST):
        first = Incident.objects.filter(site=site, kind="down").order_by("spans__valid_from")[0]
    who, rights = access("manager")
    (made,) = correct_cause(actor=who, rights=rights, incident=first, cause="third_party", reason="a digger")
    assert only(version).totals == Totals(MONTH, 3 * H, 0, H, 0, MONTH - 4 * H)
    assert only(version).shares.floor == Fraction(716, 717)
    (again,) = correct_cause(actor=who, rights=rights, incident=first, cause="link", reason="their own digger")
    assert only(version).totals == Totals(MONTH, 0, 0, 4 * H, 0, MONTH - 4 * H)
    # As of between the two, the first stands.
    rows("UPDATE slas_contractversion SET made_at = '2020-01-01'", using=OWNER)
    between = made.at + (again.at - made.at) / 2
    assert only(version, between).totals.excluded_ms == 3 * H


def test_time_in_which_the_centre_was_blind_and_nobody_else_speaks(make_site, nord):
    site = make(make_site, nord, "own", (at(5), "unknown"), (at(5, 2), "down"), (at(5, 3), "up"))
    rows("UPDATE edge_sites_stateinterval SET source = 'poll'", using=OWNER)
    with scope(TEST):
        CentreBlind.objects.create(
            rule="beats", valid_from=at(5), valid_to=at(5, 4), recorded_at=at(5), closed_at=at(5, 4)
        )
    version = make_contract(segment("nord", objectives=[objective(), objective(measure="reachability")]))
    states(site, "reachability", (at(1, -9), "reachable"), (at(5, 1), "unreachable"), (at(5, 6), "reachable"))
    available, reachable = results(version)
    assert available.totals == Totals(MONTH, 4 * H, 0, 0, 0, MONTH - 4 * H)
    assert reachable.totals == Totals(MONTH, 4 * H, 0, 2 * H, 0, MONTH - 6 * H)
    # A probe, or a journal, that speaks of the time is believed, for the site's own state.
    rows("UPDATE edge_sites_stateinterval SET source = 'probe' WHERE state = 'down'", using=OWNER)
    available, reachable = results(version)
    assert available.totals == Totals(MONTH, 3 * H, 0, H, 0, MONTH - 4 * H)
    assert reachable.totals.excluded_ms == 4 * H


def window(site: Any, begin: datetime, end: datetime, **values: Any) -> int:
    defaults = {"requested_at": begin - timedelta(days=9), "decided_at": begin - timedelta(days=8), "reason": ""}
    made = {**defaults, **values}
    user = rows("SELECT id FROM people_user LIMIT 1", using=OWNER)[0][0]
    ((pk,),) = rows(
        "INSERT INTO slas_window (provider_id, title, note, begins, ends, state, side, requested_by_id, requested_name,"
        " requested_at, decided_by_id, decided_name, decided_at, decided_reason, cancelled_by, cancelled_reason)"
        " VALUES (%s, 'fans', '', %s, %s, 'approved', 'provider', %s, 'x', %s, %s, 'y', %s, %s, '', '') RETURNING id",
        [site.provider_id, begin, end, user, made["requested_at"], user, made["decided_at"], made["reason"]],
        using=OWNER,
    )
    rows(
        "INSERT INTO slas_windowsite (window_id, site_id, provider_id) VALUES (%s, %s, %s)",
        [pk, site.pk, site.provider_id],
        using=OWNER,
    )
    return int(pk)


def test_maintenance_within_its_cap_and_with_its_notice(make_site, nord, access):
    access("operator")
    site = make(make_site, nord, "own", (at(5), "down"), (at(5, 10), "up"), (at(7), "down"), (at(7, 2), "up"))
    rules = {"notice_h": "72", "cap_h": "8", "cap_per": "month"}
    version = make_contract(segment("nord", maintenance=rules))
    window(site, at(5), at(5, 6))
    assert only(version).totals == Totals(MONTH, 6 * H, 0, 6 * H, 0, MONTH - 12 * H)
    short = window(site, at(7), at(7, 2), requested_at=at(5, 1))
    assert only(version).totals.down_ms == 6 * H
    rows("UPDATE slas_window SET decided_reason = 'it burns' WHERE id = %s", [short], using=OWNER)
    assert only(version).totals.excluded_ms == 8 * H
    window(site, at(5, 6), at(5, 10))  # two hours are left for it, and so none for the later one
    assert only(version).totals == Totals(MONTH, 8 * H, 0, 4 * H, 0, MONTH - 12 * H)
    rows("UPDATE slas_window SET state = 'cancelled', cancelled_at = %s WHERE id = %s", [at(9), short], using=OWNER)
    # A report of the month's second half knows what was used up in the first.
    window(site, at(20), at(20, 4))
    assert only(version, begin=at(16)).totals.excluded_ms == 0


def test_maintenance_that_counts_as_up(make_site, nord, access):
    access("operator")
    site = make(make_site, nord, "own", (at(5), "down"), (at(5, 4), "unknown"), (at(5, 6), "up"))
    version = make_contract(segment("nord", maintenance={"counts": "counts_as_up"}))
    window(site, at(5, 2), at(5, 6))
    assert only(version).totals == Totals(MONTH, 0, 2 * H, 2 * H, 0, MONTH - 4 * H)


# How far a promise reaches ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("reach", "verdict"),
    [
        ({"scope": "each_site"}, Verdict.MISSED),
        ({"scope": "pooled"}, Verdict.MET),
        ({"scope": "share_of_sites", "share": "66"}, Verdict.MET),
        ({"scope": "share_of_sites", "share": "67"}, Verdict.MISSED),
    ],
)
def test_each_site_all_together_or_a_share_of_them(make_site, nord, reach, verdict):
    make(make_site, nord, "one")
    make(make_site, nord, "two")
    make(make_site, nord, "three", (at(5), "down"), (at(5, 4), "up"))  # 99.44 %, and 99.81 % of all three
    found = only(make_contract(segment("nord", objectives=[objective(**reach)])))
    assert [row.settled.verdict for row in found.sites] == [Verdict.MET, Verdict.MET, Verdict.MISSED]
    assert found.verdict is verdict
    assert found.totals.scheduled_ms == 3 * MONTH


def test_some_of_the_sites_only(make_site, nord):
    make(make_site, nord, "one")
    two = make(make_site, nord, "two", (at(5), "down"))
    version = make_contract(segment("nord"))
    assert [row.slug for row in only(version, site_ids=[two.pk]).sites] == ["two"]
    assert only(version, site_ids=[10**6]).verdict is None


def test_queries_do_not_grow_with_sites(make_site, nord, django_assert_num_queries):
    version = make_contract(segment("nord"))
    for slug in ("one", "two", "three"):
        make(make_site, nord, slug, (at(5), "down"))
        with scope(TEST), django_assert_num_queries(8):
            figures_of(version.contract, NOVEMBER, DECEMBER, LATER)


def test_milliseconds_are_exact(database):
    moments = [datetime(2026, 11, 1, 0, 0, 0, micro, tzinfo=UTC) for micro in (0, 1000, 123_000, 999_999, 999_000)]
    query = "SELECT (date_part('epoch', m) * 1000000)::int8 / 1000 FROM unnest(%s::timestamptz[]) WITH ORDINALITY AS u(m, n) ORDER BY n"  # noqa: E501
    with connections["owner"].cursor() as cursor:
        cursor.execute(query, [moments])
        assert [value for (value,) in cursor.fetchall()] == [ms(one) for one in moments]
