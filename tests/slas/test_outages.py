"""From states to outages: what is one, what goes on, what a correction touches, and why it was."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.kit.tenancy import Scope, scope
from sites.models import Site
from sites.services.reports import record_reports
from sites.services.sites import update_site
from slas.causes import Known, judge
from slas.models import CentreBlind, Finding, Incident, IncidentSpan
from slas.outages import Interval, Run, Standing, changes, runs
from slas.services import deriving
from slas.services.deriving import derive_due, note_due
from slas.states import Cause, Charged, Kind
from slas.tasks import derive_outages, watch_the_centre
from tests.conftest import everything
from tests.database import OWNER, rows
from tests.sites.builders import polled
from tests.slas.factories import NOVEMBER, TEST, interval, states

T = NOVEMBER


def at(minutes: float) -> datetime:
    return T + timedelta(minutes=minutes)


def line(*parts: tuple[int, int | None, str], provider: int = 1) -> list[Interval]:
    return [
        Interval(at(begin), None if end is None else at(end), state, provider, key)
        for key, (begin, end, state) in enumerate(parts)
    ]


def shown(found: Any) -> list[tuple[float, float | None, bool]]:
    return [(minutes(run.begin), minutes(run.end), run.goes_on) for run in found]


def minutes(moment: datetime | None) -> Any:
    return None if moment is None else (moment - T) / timedelta(minutes=1)


# Runs, pure -------------------------------------------------------------------------------------------------
def test_silence_goes_on_with_an_outage_and_being_well_ends_it():
    history = line((0, 1, "up"), (1, 2, "down"), (2, 3, "unknown"), (3, 4, "down"), (4, 5, "up"), (5, None, "down"))
    assert shown(runs(history, Kind.DOWN)) == [(1, 4, False), (5, None, False)]


def test_degraded_and_down_end_each_other():
    history = line((0, 1, "degraded"), (1, 2, "down"), (2, 3, "degraded"), (3, 4, "unknown"), (4, 5, "up"))
    assert shown(runs(history, Kind.DOWN)) == [(1, 2, False)]
    assert shown(runs(history, Kind.DEGRADED)) == [(0, 1, False), (2, 4, False)]


def test_a_gap_in_history_ends_an_outage_and_less_than_a_millisecond_is_none():
    assert shown(runs(line((0, 1, "down"), (2, 3, "down")), Kind.DOWN)) == [(0, 1, False), (2, 3, False)]
    close = [Interval(at(0), at(1), "down", 1, 1), Interval(at(1) + timedelta(microseconds=900), None, "down", 1, 2)]
    assert shown(runs(close, Kind.DOWN)) == [(0, None, False)]


def test_a_state_that_lasted_no_time():
    assert shown(runs(line((0, 0, "down"), (0, 1, "up")), Kind.DOWN)) == []
    assert shown(runs(line((0, 0, "down"), (0, 3, "unknown"), (3, 4, "up")), Kind.DOWN)) == [(0, 3, False)]
    assert shown(runs(line((0, 2, "down"), (2, 2, "up"), (2, 4, "unknown")), Kind.DOWN)) == [(0, 2, False)]
    assert shown(runs(line((0, 4, "down"), (1, 1, "unknown"), (4, 5, "up")), Kind.DOWN)) == [(0, 4, False)]


def test_a_hand_over_ends_a_part_and_begins_the_next():
    history = [*line((0, 1, "unreachable")), *line((1, 2, "unreachable"), (2, 3, "reachable"), provider=2)]
    first, second = runs(history, Kind.UNREACHABLE)
    assert shown([first, second]) == [(0, 1, False), (1, 2, True)]
    assert (first.provider_id, second.provider_id) == (1, 2)


def run(begin: float, end: float | None, provider: int = 1, *, goes_on: bool = False) -> Run:
    one = Interval(at(begin), None if end is None else at(end), "down", provider, 1)
    return Run(Kind.DOWN, provider, one.begin, one.end, goes_on, one, one)


def span(key: int, begin: float, end: float | None, incident: int = 1, provider: int = 1) -> Standing:
    return Standing(key, incident, Kind.DOWN, provider, at(begin), None if end is None else at(end))


def test_what_is_right_already_is_not_touched():
    found = changes([run(0, 1), run(2, None)], [span(7, 0, 1), span(8, 2, None, 2)])
    assert (found.closed, found.superseded, found.added, found.merged) == ([], [], [], [])


def test_an_open_span_is_closed_and_another_end_supersedes():
    wanted = run(0, 5)
    assert changes([wanted], [span(7, 0, None)]).closed == [(7, wanted)]
    found = changes([run(0, 6)], [span(7, 0, 5)])
    assert (found.superseded, [(one.incident, one.with_last) for one in found.added]) == ([7], [(1, False)])


def test_an_outage_that_turns_out_to_be_two_keeps_its_incident_in_the_first():
    found = changes([run(0, 2), run(3, 5)], [span(7, 0, 5)])
    assert [one.incident for one in found.added] == [1, None]


def test_two_that_turn_out_to_be_one_are_merged_into_the_first():
    found = changes([run(0, 5)], [span(7, 0, 2, 1), span(8, 3, 5, 2)])
    assert (found.superseded, found.merged) == ([7, 8], [(2, 1)])
    assert [one.incident for one in found.added] == [1]


def test_parts_across_a_hand_over_share_their_incident():
    new = changes([run(0, 1), run(1, 2, 2, goes_on=True)], [])
    assert [(one.incident, one.with_last) for one in new.added] == [(None, False), (None, True)]
    known = changes([run(0, 1), run(1, 2, 2, goes_on=True)], [span(7, 0, 1, 4)])
    assert [(one.incident, one.with_last) for one in known.added] == [(4, False)]


@given(
    st.lists(st.sampled_from(["up", "down", "degraded", "unknown"]), min_size=1, max_size=12),
    st.lists(st.sampled_from(["up", "down", "degraded", "unknown"]), min_size=1, max_size=12),
)
def test_changes_always_lead_to_what_is_wanted(before, after):
    """Whatever stood, after the changes exactly the runs stand that the history has, each with an incident."""

    def all_runs(history: list[str]) -> list[Run]:
        parts = line(*((n, n + 1, state) for n, state in enumerate(history)))
        return [one for kind in (Kind.DOWN, Kind.DEGRADED) for one in runs(parts, kind)]

    stood = [Standing(n, n, one.kind, 1, one.begin, one.end) for n, one in enumerate(all_runs(before))]
    found = changes(all_runs(after), stood)
    left = {(row.kind, row.begin, row.end) for row in stood if row.key not in found.superseded}
    left = {(kind, begin, end) for kind, begin, end in left}
    left |= {(one.run.kind, one.run.begin, one.run.end) for one in found.added}
    assert left == {(one.kind, one.begin, one.end) for one in all_runs(after)}
    chosen = [one.incident for one in found.added if one.incident is not None]
    assert len(set(chosen)) == len(chosen)


# Causes, pure -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("known", "cause", "charged"),
    [
        (Known(Kind.UNREACHABLE, blind=3, window=1, window_side="provider"), Cause.CENTRE, Charged.OPERATOR),
        (Known(Kind.DOWN, blind=3), Cause.UNKNOWN, Charged.NOBODY),
        (Known(Kind.DOWN, window=1, window_side="provider", document=5), Cause.MAINTENANCE, Charged.PROVIDER),
        (Known(Kind.DOWN, window=1, window_side="operator"), Cause.MAINTENANCE, Charged.OPERATOR),
        (Known(Kind.DOWN, step={"step": 4}, document=5), Cause.OPERATOR_ROLLOUT, Charged.OPERATOR),
        (Known(Kind.DOWN, document=5, rebooted=True), Cause.OPERATOR_CHANGE, Charged.OPERATOR),
        (Known(Kind.DOWN, rebooted=True), Cause.POWER, Charged.PROVIDER),
        (Known(Kind.UNREACHABLE, rebooted=True, ran_on=True), Cause.POWER, Charged.PROVIDER),
        (Known(Kind.UNREACHABLE, ran_on=True), Cause.LINK, Charged.PROVIDER),
        (Known(Kind.DEGRADED, reasons_of_workloads=True), Cause.WORKLOAD, Charged.OPERATOR),
        (Known(Kind.UNREACHABLE, reasons_of_workloads=True), Cause.UNKNOWN, Charged.NOBODY),
        (Known(Kind.UNREACHABLE), Cause.UNKNOWN, Charged.NOBODY),
    ],
)
def test_the_first_rule_that_fits(known, cause, charged):
    found = judge(known)
    assert (found.cause, found.charged_to) == (cause, charged)


# From the database ------------------------------------------------------------------------------------------
def spans(site: Site, *, all_of_them: bool = False) -> list[tuple[str, int, Any, Any, int]]:
    with scope(TEST):
        found = IncidentSpan.objects.filter(site_id=site.pk).order_by("kind", "valid_from", "id")
        found = found if all_of_them else found.filter(superseded_at=None)
        return [(s.kind, s.provider_id, minutes(s.valid_from), minutes(s.valid_to), s.incident_id) for s in found]


def causes(site: Site) -> list[tuple[str, str, dict[str, Any]]]:
    with scope(TEST):
        return [(f.cause, f.charged_to, f.proof) for f in Finding.objects.filter(incident__site=site).order_by("id")]


SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=1)


def soon(count: float) -> datetime:
    """Samples have a place to go only these days."""
    return SOON + timedelta(minutes=count)


def polled_spans() -> list[tuple[Any, ...]]:
    with scope(TEST):
        found = IncidentSpan.objects.filter(superseded_at=None).order_by("kind")
        return list(found.values_list("kind", "provider_id", "valid_from", "valid_to"))


@pytest.mark.usefixtures("database")
class TestDeriving:
    def test_polls_open_and_close_outages(self, make_site):
        site = make_site()
        record_reports([polled(site, "up", at=soon(0))], poller="test")
        record_reports([polled(site, "down", at=soon(1), reasons=("disk: full",))], poller="test")
        assert derive_due() == 1
        assert polled_spans() == [("down", site.provider_id, soon(1), None)]
        with scope(TEST):
            (one,) = IncidentSpan.objects.all()
            assert one.evidence["reasons"] == ["disk: full"]
        for _ in range(3):
            record_reports([polled(site, None, at=soon(2))], poller="test")
        record_reports([polled(site, "up", at=soon(5))], poller="test")
        assert derive_due() == 1
        assert polled_spans() == [
            ("down", site.provider_id, soon(1), soon(5)),
            ("unreachable", site.provider_id, soon(1), soon(5)),
        ]
        assert derive_due() == 0

    def test_a_change_that_is_no_change_writes_nothing(self, make_site):
        site = make_site()
        states(site, "availability", (at(0), "up"), (at(1), "down"), (at(2), "up"))
        derive_due()
        before = rows("SELECT xmin::text, * FROM slas_incidentspan", using=OWNER)
        rows("INSERT INTO slas_dueincidents (site_id, provider_id, since) VALUES (%s, %s, 'epoch')",
             [site.pk, site.provider_id], using=OWNER)  # fmt: skip
        assert derive_due() == 1
        assert rows("SELECT xmin::text, * FROM slas_incidentspan", using=OWNER) == before

    def test_a_hand_over_splits_the_outage_and_the_incident_stays_one(self, make_site, make_provider):
        nord, sued = make_provider("nord"), make_provider("sued")
        site = make_site("moves", nord)
        record_reports([polled(site, "down")], poller="test")
        derive_due()
        update_site(actor=TEST, rights=everything(), site=site, values={"provider_id": sued.pk})
        derive_due()
        with scope(TEST):
            first, second = IncidentSpan.objects.order_by("valid_from")
        assert (first.provider_id, second.provider_id) == (nord.pk, sued.pk)
        assert first.valid_to == second.valid_from
        assert first.incident_id == second.incident_id
        site.provider_id = sued.pk
        record_reports([polled(site, "up")], poller="test")
        derive_due()
        with scope(Scope(name="s", providers=frozenset({sued.pk}))):
            (own,) = IncidentSpan.objects.all()
            assert (own.provider_id, own.valid_to is None) == (sued.pk, False)
            assert Incident.objects.count() == 1
        with scope(Scope(name="x", providers=frozenset({10**6}))):
            assert (Incident.objects.count(), IncidentSpan.objects.count(), Finding.objects.count()) == (0, 0, 0)

    def test_a_late_correction_touches_only_its_own_time_and_keeps_the_incident(self, make_site):
        site = make_site()
        states(
            site, "availability",
            (at(0), "up"), (at(1), "down"), (at(2), "up"), (at(10), "unknown"), (at(20), "up"), (at(30), "down"),
        )  # fmt: skip
        derive_due()
        assert [row[2:4] for row in spans(site)] == [(1, 2), (30, None)]
        before = {row[4] for row in spans(site)}
        # The silence from 10 to 20 was an outage from 12 to 18, as the journal says.
        rows(
            "UPDATE edge_sites_stateinterval SET superseded_at = now() WHERE valid_from = %s AND axis = 'availability'",
            [at(10)],
            using=OWNER,
        )
        interval(site, "availability", "up", at(10), at(12), source="journal")
        interval(
            site, "availability", "down", at(12), at(18), source="journal", evidence='{"journal": {"why": "reboot"}}'
        )
        interval(site, "availability", "up", at(18), at(20), source="journal")
        derive_due()
        assert [row[2:4] for row in spans(site)] == [(1, 2), (12, 18), (30, None)]
        assert before <= {row[4] for row in spans(site)}
        assert len(spans(site, all_of_them=True)) == 3
        assert causes(site) == [("power", "provider", {})]
        took = []
        for _ in range(5):
            with scope(TEST):
                note_due([site.pk], at(10))
            began = time.perf_counter()
            assert derive_due() == 1
            took.append(time.perf_counter() - began)
        assert min(took) < 0.05

    def test_a_journal_that_says_it_was_well_takes_an_outage_back(self, make_site):
        site = make_site()
        states(site, "availability", (at(0), "up"), (at(1), "down"), (at(2), "up"))
        derive_due()
        rows("UPDATE edge_sites_stateinterval SET superseded_at = now() WHERE state = 'down'", using=OWNER)
        interval(site, "availability", "up", at(1), at(2), source="journal")
        derive_due()
        assert spans(site) == []
        assert len(spans(site, all_of_them=True)) == 1

    def test_a_link_that_was_cut_while_the_journal_says_it_ran_on(self, make_site):
        site = make_site()
        states(site, "availability", (at(0), "up"))
        states(site, "reachability", (at(0), "reachable"), (at(5), "unreachable"), (at(9), "reachable"))
        derive_due()
        assert causes(site) == []  # the poll of before proves nothing of the time without a link
        rows("UPDATE edge_sites_stateinterval SET superseded_at = now() WHERE axis = 'availability'", using=OWNER)
        interval(site, "availability", "up", at(0), None, source="journal")
        derive_due()
        assert causes(site) == [("link", "provider", {})]

    def test_what_nothing_but_workloads_caused(self, make_site):
        site = make_site()
        record_reports([polled(site, "up", at=soon(0))], poller="test")
        record_reports([polled(site, "degraded", at=soon(1), reasons=("pos: exited",))], poller="test")
        derive_due()
        assert causes(site) == [("workload", "operator", {})]
        other = make_site()
        record_reports([polled(other, "up", at=soon(0))], poller="test")
        record_reports([polled(other, "down", at=soon(1), reasons=("disk: full", "pos: exited"))], poller="test")
        derive_due()
        assert causes(other) == []

    def test_the_centres_own_blindness(self, make_site):
        site = make_site()
        with scope(TEST):
            blind = CentreBlind.objects.create(rule="beats", valid_from=at(5), valid_to=at(9), closed_at=at(9))
        states(site, "reachability", (at(0), "reachable"), (at(5), "unreachable"), (at(9), "reachable"))
        derive_due()
        assert causes(site) == [("centre", "operator", {"blind": blind.pk})]

    def test_the_tasks_work_off_all_that_is_due(self, make_site, monkeypatch):
        provider = make_site().provider
        for _ in range(5):
            states(make_site(provider=provider), "availability", (at(0), "up"), (at(1), "down"))
        monkeypatch.setattr(deriving, "LIMIT", 2)
        derive_outages()
        with scope(TEST):
            assert IncidentSpan.objects.filter(kind="down", valid_to=None).count() == 5
        assert rows("SELECT count(*) FROM slas_dueincidents", using=OWNER) == [(0,)]
        watch_the_centre()

    def test_many_sites_are_derived_at_once_in_a_fixed_number_of_queries(self, make_site, django_assert_num_queries):
        provider = make_site().provider
        for _ in range(3):
            states(make_site(provider=provider), "availability", (at(0), "up"), (at(1), "down"), (at(2), "up"))
        derive_due()
        for count in (1, 3):
            for _ in range(count):
                states(make_site(provider=provider), "availability", (at(0), "up"), (at(1), "down"), (at(2), "up"))
            with django_assert_num_queries(21):
                assert derive_due() == count
