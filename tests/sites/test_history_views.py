"""Pages of a site's journal and time line: what a manager reads in a dispute."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agent.protocol import components_digest
from agent.protocol.entries import Components, Gap
from sites.models import ComponentSet, ComponentSpan, JournalCursor, JournalEnvelope, SiteState, StateInterval
from sites.services.backfill import note_problem
from tests.sites.builders import KERNEL, POS
from tests.sites.journaled import NOW, OWNER, SiteWithJournal
from tests.sites.test_backfill_components import NEW, OLD, by_polls

pytestmark = pytest.mark.usefixtures("plain_static")


@pytest.fixture
def read(told):
    """An outage, a change of version and a loss within twelve hours without a link; the journal was read."""
    by_polls(told, (OLD, 1500, 10), (NEW, 10, None))
    told.verdict(800, "up")
    told.write(799.5, Components(components_digest((KERNEL, POS)), (KERNEL, POS)))
    told.live(799, 401)
    told.verdict(400.5, "down")
    told.write(400.4, Components(components_digest(NEW), NEW))
    told.live(400, 371)
    told.verdict(370.5, "up")
    told.write(370.4, Gap(3, 5, {"sample": 3}, "bound"))
    told.live(370, 1)
    told.read_all()
    return told


def page(client: Any, told: SiteWithJournal, what: str, **query: Any) -> str:
    answer = client.get(f"/sites/{told.site.slug}/{what}/", query)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_the_time_line_names_the_source_and_the_entries_of_each_interval(read, signed_in):
    text = page(signed_in("viewer"), read, "timeline")
    assert "journal entries 402 to 434: its own verdict" in text
    assert text.count("Site&#x27;s journal") + text.count("Site's journal") >= 3
    assert "corrected on" not in text
    assert "With what was recorded before (3)" in text


def test_what_was_superseded_says_when_and_by_which_entries(read, signed_in):
    fallen = StateInterval.objects.using(OWNER).get(site=read.site, state="unknown")
    text = page(signed_in("viewer"), read, "timeline", before="1")
    assert text.count('class="is-fallen"') == 3
    standing = StateInterval.objects.using(OWNER).filter(site=read.site, superseded_at=None, axis="availability")
    entries = [row.evidence["journal"] for row in standing if "journal" in row.evidence]
    first, last = min(proof["from_seq"] for proof in entries), max(proof["to_seq"] for proof in entries)
    assert fallen.superseded_at is not None
    assert f"journal entries {first}–{last}" in text
    assert "As first recorded" in text


def test_a_version_changed_when_it_changed(read, signed_in):
    for what in ("timeline", ""):
        text = page(signed_in("viewer"), read, what) if what else _site(signed_in("viewer"), read)
        assert "4.2.1 aaaaaaaa" in text
        assert "4.3.0 bbbbbbbb" in text
        assert "Site&#x27;s journal, entries 403–" in text


def _site(client: Any, told: SiteWithJournal) -> str:
    return " ".join(client.get(f"/sites/{told.site.slug}/").content.decode().split())


def test_the_journal_page_shows_entries_gaps_and_pages(read, signed_in):
    JournalEnvelope.objects.using(OWNER).update(holes=[[3, 5]])
    text = page(signed_in("viewer"), read, "journal")
    assert "3 to 5 are gone (bound): 3 sample" in text
    assert "Entries 3 to 5 were not in its journal any more" in text
    envelope = JournalEnvelope.objects.using(OWNER).get()
    assert f"/api/v1/sites/{read.site.slug}/journal/envelopes/{envelope.pk}" in text
    only = page(signed_in("viewer"), read, "journal", kind="components")
    assert only.count("<strong>components</strong>") == 2
    assert "<strong>verdict</strong>" not in only


@pytest.mark.parametrize("query", [{"kind": "rumour"}, {"before": "x"}, {"before": "9" * 40}, {"before": "-1"}])
def test_a_query_that_says_nothing_changes_nothing(read, signed_in, query):
    assert "<strong>verdict</strong>" in page(signed_in("viewer"), read, "journal", **query)


@pytest.mark.parametrize(
    ("reachability", "due_in_s", "words"),
    [
        ("reachable", -1, "reading now"),
        ("reachable", 7_290, "they are read in 2 h 01 min, or at once after an absence or a restart"),
        ("unreachable", -1, "they are read as soon as it answers again"),
    ],
)
def test_what_is_waited_for_is_said(read, signed_in, reachability, due_in_s, words):
    seq, _ = read.journal.head(read.site.uuid)
    SiteState.objects.using(OWNER).filter(site=read.site).update(journal_seq=seq + 1240, reachability=reachability)
    due_at = timezone.now() + timedelta(seconds=due_in_s)
    JournalCursor.objects.using(OWNER).filter(site=read.site).update(next_at=due_at)
    assert f"The site has 1,240 entries that we have not read; {words}." in page(signed_in("viewer"), read, "journal")


def test_a_problem_is_said_and_that_it_is_tried_again(read, signed_in):
    seq, _ = read.journal.head(read.site.uuid)
    SiteState.objects.using(OWNER).filter(site=read.site).update(journal_seq=seq + 1, reachability="reachable")
    note_problem(read.site.pk, "its journal is refused", identity_id=read.identity.pk, alarm=True)
    text = page(signed_in("viewer"), read, "journal")
    assert "its journal is refused" in text
    assert "The site has 1 entry that we have not read; it is tried again within a quarter of an hour." in text


def test_older_entries_are_on_the_next_page(told, signed_in):
    told.write_many((700 - number / 10, Gap(number + 1, number, {}, "disk_full")) for number in range(150))
    told.read_all()
    first = page(signed_in("viewer"), told, "journal", kind="gap")
    assert first.count("<strong>gap</strong>") == 100
    link = first.partition('href="?kind=gap&amp;before=')[2].partition('"')[0]
    assert page(signed_in("viewer"), told, "journal", kind="gap", before=link).count("<strong>gap</strong>") == 50


@pytest.mark.parametrize("what", ["journal", "timeline"])
def test_queries_do_not_grow_with_rows(told, signed_in, what):
    client, counts = signed_in("viewer"), []
    page(client, told, what)
    for minutes_ago, state in ((600, "down"), (500, "up"), (400, "degraded")):
        told.verdict(minutes_ago, state)
        told.read_all()
        with CaptureQueriesContext(connection) as seen:
            page(client, told, what)
        counts.append(len(seen))
    assert counts[0] == counts[2]


def test_sets_that_only_differ_in_digest_are_a_change_too(told, signed_in):
    other = (KERNEL, type(POS)("workload", "pos", "4.2.1", "sha256:" + "d" * 64))
    by_polls(told, (OLD, 60, 30), (other, 30, None))
    assert ComponentSpan.objects.using(OWNER).count() == ComponentSet.objects.using(OWNER).count() == 2
    assert "4.2.1 dddddddd" in page(signed_in("viewer"), told, "timeline", range="24h")
    assert timezone.now() > NOW
