"""Whatever happens to a site, and whenever its journal is read: three things that hold of all figures.

Two sites live through the same, minute by minute, with the same polls. One's journal is read as it comes to pass, the
other's at the very end. Then both have the same figures and outages; what was computed at a moment is what is computed
as of that moment later on; and parts of the time add up to the whole of it.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fleet.kit.tenancy import scope
from slas.engine import Totals
from slas.models import CentreBlind, ContractVersion, IncidentSpan
from slas.selectors.figures import figures_of
from slas.services.deriving import derive_due
from slas.states import Measure
from tests.database import OWNER, rows
from tests.slas.factories import TEST, make_contract, objective, segment
from tests.slas.simulated import MINUTE, AgentSite, Clock, berlin, miss, poll, simulated_clock

START = berlin(24, 23)  # two hours before the clocks go back
WHOLE = [["00:00", "24:00"]]
HOURS = {
    "timezone": "Europe/Berlin",
    "weekly": {"sat": WHOLE, "sun": [["00:00", "02:30"], ["02:45", "24:00"]], "mon": WHOLE, "tue": WHOLE},
}
Step = tuple[int, str, bool]
steps = st.lists(
    st.tuples(st.integers(1, 40), st.sampled_from(["down", "degraded", "up", "cut", "off", "link"]), st.booleans()),
    min_size=1,
    max_size=7,
)


class Pair:
    """Two sites in step; `read_on` is whose journal is read as soon as it may be."""

    def __init__(self, clock: Clock, read_on: AgentSite, read_late: AgentSite) -> None:
        self.clock, self.read_on, self.both = clock, read_on, (read_on, read_late)
        self.linked = True
        for one in self.both:
            one.remember()
        poll(*self.both)

    def live(self, minutes: int) -> None:
        """Both live on."""
        for _ in range(minutes):
            self.clock.set(self.clock.now + MINUTE)
            for one in self.both:
                assert one.memory is not None
                one.memory.tick()

    def do(self, what: str, *, read: bool) -> None:
        """Something happens to both; while they are linked they are polled right then."""
        if what in {"cut", "off"}:
            self._cut(is_off=what == "off")
        elif what == "link":
            self._link()
        elif self.read_on.machine.is_running:
            for one in self.both:
                one.mode(None if what == "up" else what)  # type: ignore[arg-type]
        if self.linked:
            poll(*self.both)
            if read:
                self.read_on.read_journal()
        derive_due()

    def end(self) -> None:
        """Both are reached again, and both journals are read to their ends."""
        self.live(1)
        self._link()
        poll(*self.both)
        for one in self.both:
            one.read_journal()
        derive_due()

    def _cut(self, *, is_off: bool) -> None:
        if self.linked:
            poll(*self.both)
        if is_off:
            for one in self.both:
                one.mode("off")
        if self.linked:
            self.linked = False
            miss(self.clock, *self.both)

    def _link(self) -> None:
        for one in self.both:
            if not one.machine.is_running:
                one.mode(None)
        self.linked = True


@pytest.fixture
def clock(database: None, monkeypatch: Any) -> Iterator[Clock]:
    with simulated_clock(monkeypatch, START, until=START + timedelta(days=3)) as made:
        yield made


def totals(version: ContractVersion, pair: Pair, begin: datetime, end: datetime, as_of: datetime) -> list[Totals]:
    """Of each measure: the first site's, then the second's."""
    ids = [one.site.pk for one in pair.both]
    with scope(TEST):
        found = figures_of(version.contract, begin, end, as_of, site_ids=ids).results
        assert [result.objective.measure for result in found] == [Measure.AVAILABILITY, Measure.REACHABILITY]
        by_site = [{row.site_id: row.totals for row in result.sites} for result in found]
    return [one.get(pk, Totals()) for one in by_site for pk in ids]


def outages(site: AgentSite) -> list[tuple[str, datetime, datetime | None]]:
    with scope(TEST):
        spans = IncidentSpan.objects.filter(site=site.site, superseded_at=None).order_by("valid_from", "kind")
        return list(spans.values_list("kind", "valid_from", "valid_to"))


def test_order_of_arrival_does_not_matter_earlier_figures_stay_and_parts_add_up(
    clock: Clock, make_provider: Any, make_site: Any, tmp_path: Path
) -> None:
    provider = make_provider("nord")
    terms = {"begins": "2026-10-01T00:00", "calendar": HOURS}
    version = make_contract(
        segment(provider, objectives=[objective(), objective(measure="reachability")], **terms), zone="Europe/Berlin"
    )

    @settings(
        max_examples=6, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(steps, st.lists(st.integers(1, 300), max_size=3, unique=True).map(sorted))
    def holds(played: Sequence[Step], cuts: Sequence[int]) -> None:
        begin = clock.now
        pair = Pair(clock, *(AgentSite(clock, make_site(provider=provider), tmp_path, 1) for _ in range(2)))
        known: list[tuple[datetime, list[Totals]]] = []
        for minutes, what, read in played:
            pair.live(minutes)
            pair.do(what, read=read)
            known.append((clock.now, totals(version, pair, begin, clock.now, clock.now)))
        pair.end()
        clock.set(clock.now + MINUTE)
        now = clock.now
        whole = totals(version, pair, begin, now, now)
        assert whole[0::2] == whole[1::2]
        assert outages(pair.both[0]) == outages(pair.both[1])
        for as_of, then in known:
            assert totals(version, pair, begin, as_of, as_of) == then
        edges = [begin, *(begin + cut * MINUTE for cut in cuts if begin + cut * MINUTE < now), now]
        parts = [totals(version, pair, one, other, now) for one, other in pairwise(edges)]
        assert [sum(column, Totals()) for column in zip(*parts, strict=True)] == whole

    holds()


def test_a_journal_that_only_confirms_what_stood_speaks_for_time_in_which_we_were_blind(
    clock: Clock, make_provider: Any, make_site: Any, tmp_path: Path
) -> None:
    provider = make_provider("nord")
    version = make_contract(
        segment(provider, objectives=[objective()], begins="2026-10-01T00:00"), zone="Europe/Berlin"
    )
    begin = clock.now
    pair = Pair(clock, *(AgentSite(clock, make_site(provider=provider), tmp_path, 1) for _ in range(2)))
    pair.live(10)  # both journals are read up to here, and say that all is well
    poll(*pair.both)
    for one in pair.both:
        one.read_journal()
    pair.live(10)
    blind = clock.now
    pair.live(30)  # nobody polls
    with scope(TEST):
        CentreBlind.objects.create(
            rule="beats", valid_from=blind, valid_to=clock.now, recorded_at=clock.now, closed_at=clock.now
        )
    poll(*pair.both)
    derive_due()
    before = clock.now
    pair.live(10)
    poll(*pair.both)
    intervals = rows("SELECT count(*) FROM edge_sites_stateinterval", using=OWNER)
    pair.read_on.read_journal()
    assert rows("SELECT count(*) FROM edge_sites_stateinterval", using=OWNER) == intervals
    # Nothing was superseded, and yet the figures are other ones: so the site is due.
    assert rows("SELECT site_id, since FROM slas_dueincidents", using=OWNER) == [(pair.read_on.site.pk, blind)]
    minutes = 60_000
    whole = [one.excluded_ms for one in totals_of_availability(version, pair, begin, clock.now)]
    assert whole == [0, 30 * minutes]
    assert [one.up_ms for one in totals_of_availability(version, pair, begin, clock.now)] == [
        60 * minutes,
        30 * minutes,
    ]
    # As of before it was read, nobody spoke.
    then = totals_of_availability(version, pair, begin, clock.now, as_of=before)
    assert [one.excluded_ms for one in then] == [30 * minutes] * 2


def totals_of_availability(
    version: ContractVersion, pair: Pair, begin: datetime, end: datetime, *, as_of: datetime | None = None
) -> list[Totals]:
    """Of both sites."""
    with scope(TEST):
        found = figures_of(version.contract, begin, end, as_of or end).results[0]
        by_site = {row.site_id: row.totals for row in found.sites}
    return [by_site[one.site.pk] for one in pair.both]
