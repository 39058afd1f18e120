"""What a site ran while nobody reached it: versions change when they changed, not when the link came back."""

from datetime import datetime, timedelta

from django.db import connections

from agent.protocol import Component, components_digest
from agent.protocol.entries import Components, Start
from sites.models import ComponentSet, ComponentSpan, JournalCursor, SiteTenure
from tests.sites.builders import KERNEL, POS
from tests.sites.journaled import NOW, OWNER, SiteWithJournal, ago

NEXT = Component("workload", "pos", "4.3.0", "sha256:" + "b" * 64)
LAST = Component("workload", "pos", "4.4.0", "sha256:" + "c" * 64)
OLD, NEW, NEWEST = [(KERNEL, workload) for workload in (POS, NEXT, LAST)]


def components(told: SiteWithJournal, minutes_ago: float, components: tuple[Component, ...], boot: str = "a") -> None:
    told.write(minutes_ago, Components(components_digest(components), components), boot)


def by_polls(told: SiteWithJournal, *spans: tuple[tuple[Component, ...], float, float | None]) -> None:
    """Spans as polls recorded them: what it ran, from and to in minutes ago."""
    for ran, begin, end in spans:
        rows = [[c.kind, c.name, c.version, c.digest] for c in ran]
        ComponentSet.objects.using(OWNER).get_or_create(digest=components_digest(ran), defaults={"components": rows})
        to = None if end is None else NOW - timedelta(minutes=end)
        ComponentSpan.objects.using(OWNER).create(
            site=told.site,
            provider_id=told.site.provider_id,
            component_set_id=components_digest(ran),
            valid_from=NOW - timedelta(minutes=begin),
            valid_to=to,
            closed_at=to,
            source="poll",
            evidence={"poll": "at"},
        )


def standing(told: SiteWithJournal) -> list[tuple[str, float | None, float | None, str]]:
    rows = ComponentSpan.objects.using(OWNER).filter(site=told.site, superseded_at=None).order_by("valid_from")
    sets = {row.digest: {name: version for _, name, version, _ in row.components} for row in owned_sets()}
    return [(sets[row.component_set_id]["pos"], ago(row.valid_from), ago(row.valid_to), row.source) for row in rows]


def owned_sets() -> list[ComponentSet]:
    return list(ComponentSet.objects.using(OWNER).all())


def test_a_version_changed_when_the_journal_says_and_not_when_the_link_came_back(told):
    by_polls(told, (OLD, 1500, 10), (NEW, 10, None))
    components(told, 800, OLD)
    told.live(799, 401)
    components(told, 400.5, NEW)
    told.live(400, 1)
    told.read_all()
    assert standing(told) == [("4.2.1", 1500, 400.5, "poll"), ("4.3.0", 400.5, None, "journal")]
    newest = ComponentSpan.objects.using(OWNER).get(site=told.site, superseded_at=None, valid_to=None)
    assert newest.evidence["journal"] == {
        "from_seq": 401,
        "to_seq": 801,
        "why": "components",
        "identity": told.identity.pk,
    }


def test_a_version_that_came_and_went_within_the_cut_is_known(told):
    by_polls(told, (OLD, 1500, 10), (NEWEST, 10, None))
    components(told, 800, OLD)
    told.live(799, 601)
    components(told, 600.5, NEW)
    told.live(600, 301)
    components(told, 300.5, NEWEST)
    told.live(300, 1)
    told.read_all()
    assert standing(told) == [
        ("4.2.1", 1500, 600.5, "poll"),
        ("4.3.0", 600.5, 300.5, "journal"),
        ("4.4.0", 300.5, None, "journal"),
    ]
    assert NEXT.version in {version for row in owned_sets() for _, _, version, _ in row.components}


def test_what_polls_recorded_stays_and_says_when_it_fell(told):
    by_polls(told, (OLD, 1500, 10), (NEW, 10, None))
    before = {row.pk: (row.component_set_id, row.valid_from, row.valid_to, row.source) for row in spans(told)}
    components(told, 400.5, NEW)
    told.live(400, 1)
    told.read_all()
    fallen = [row for row in spans(told) if row.superseded_at is not None]
    assert {row.pk: (row.component_set_id, row.valid_from, row.valid_to, row.source) for row in fallen} == before


def spans(told: SiteWithJournal) -> list[ComponentSpan]:
    return list(ComponentSpan.objects.using(OWNER).filter(site=told.site).order_by("pk"))


def test_pages_and_repetition_give_what_one_reading_would(told):
    by_polls(told, (OLD, 1500, 10), (NEW, 10, None))
    components(told, 800, OLD)
    told.live(799, 500)
    page, body = told.page(0)
    early = told.anchor()
    components(told, 400.5, NEW)
    told.live(400, 1)
    assert told.read_all() == 1
    stands = standing(told)
    assert not told.record(page, body)
    assert standing(told) == stands == [("4.2.1", 1500, 400.5, "poll"), ("4.3.0", 400.5, None, "journal")]
    assert early.seq < told.anchor().seq


def test_the_set_that_an_earlier_page_named_goes_on_in_the_next(told):
    by_polls(told, (OLD, 1500, 10), (NEW, 10, None))
    components(told, 1490, OLD)
    told.live(1489, 1201)
    components(told, 1200.5, NEW)
    told.live(1200, 1)
    assert told.read_all() == 2
    assert JournalCursor.objects.using(OWNER).get(site=told.site).last_digest == components_digest(NEW)
    assert standing(told) == [("4.2.1", 1500, 1200.5, "poll"), ("4.3.0", 1200.5, None, "journal")]


def test_nothing_is_said_of_the_time_in_which_the_machine_stood_still(told):
    by_polls(told, (OLD, 1500, 10), (NEW, 10, None))
    told.boots["b"] = NOW - timedelta(minutes=300)
    components(told, 800, OLD)
    told.live(799, 500)
    told.write(299, Start(60_000, "1.0", False, told.boots["b"]), "b")
    components(told, 299, NEW, "b")
    told.live(298, 1, "b")
    told.read_all("b")
    assert standing(told) == [("4.2.1", 1500, 299, "poll"), ("4.3.0", 299, None, "journal")]


def test_a_set_too_large_for_an_entry_is_known_only_where_a_poll_brought_it(told):
    by_polls(told, (OLD, 1500, 10), (NEW, 10, None))
    told.write(400.5, Components(components_digest(NEWEST), None))
    told.live(400, 301)
    told.write(300.5, Components(components_digest(NEW), None))
    told.live(300, 1)
    told.read_all()
    assert standing(told) == [("4.2.1", 1500, 300.5, "poll"), ("4.3.0", 300.5, None, "journal")]


def test_components_of_another_providers_time_stay_as_they_were(told):
    SiteTenure.objects.using(OWNER).filter(site=told.site).update(valid_from=NOW - timedelta(minutes=300))
    by_polls(told, (OLD, 1500, 300), (OLD, 300, 10), (NEW, 10, None))
    components(told, 400.5, NEW)
    told.live(400, 1)
    told.read_all()
    assert standing(told) == [("4.2.1", 1500, 300, "poll"), ("4.3.0", 300, None, "journal")]


def test_times_are_those_of_the_rows(told):
    by_polls(told, (NEW, 1500, None))
    components(told, 800, NEW)
    told.live(799, 1)
    told.read_all()
    assert standing(told) == [("4.3.0", 1500, None, "poll")]  # nothing contradicts it: nothing changes
    with connections[OWNER].cursor() as cursor:
        cursor.execute("SELECT count(*), max(recorded_at) FROM edge_sites_componentspan")
        count, recorded = cursor.fetchone()
    assert count == 1
    assert isinstance(recorded, datetime)
