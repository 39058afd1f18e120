"""claim(): who is polled next."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from sites.models import PollSchedule
from sites.services.claims import claim, map_pollers
from sites.services.sites import change_life, poll_now
from tests.conftest import TEST, everything

pytestmark = pytest.mark.usefixtures("database")


def schedule(site: Any, **values: Any) -> None:
    PollSchedule.objects.using("owner").filter(site=site).update(**values)


def claimed(*, beat: bool = False) -> list[int]:
    return sorted(pk for batch in claim(beat=beat) for pk in batch.site_ids)


def test_only_due_sites_are_claimed_and_only_once(make_site: Any) -> None:
    due, later = make_site(), make_site()
    schedule(due, next_poll_at=timezone.now() - timedelta(seconds=1))
    schedule(later, next_poll_at=timezone.now() + timedelta(seconds=20))
    assert claimed() == [due.pk]
    assert claimed() == []


def test_site_keeps_its_phase(make_site: Any) -> None:
    site = make_site(poll_interval_s=30)
    before = timezone.now() - timedelta(seconds=2)
    schedule(site, next_poll_at=before)
    claim(beat=False)
    row = PollSchedule.objects.using("owner").get(site=site)
    assert (row.due_at, row.next_poll_at) == (before, before + timedelta(seconds=30))


@pytest.mark.parametrize(("backoff", "waits_s"), [(1, {30}), (2, {30, 60}), (4, {60, 90, 120})])
def test_backed_off_sites_wait_several_intervals_and_not_all_the_same(
    make_site: Any, backoff: int, waits_s: set[int]
) -> None:
    site = make_site(poll_interval_s=30)
    seen = set()
    for _ in range(60):  # that one of three never comes has a chance of 1 in 10^10
        before = timezone.now()
        schedule(site, next_poll_at=before, backoff=backoff)
        claim(beat=False)
        seen.add((PollSchedule.objects.using("owner").get(site=site).next_poll_at - before).total_seconds())
    assert seen == waits_s


def test_site_that_nobody_claimed_for_long_gets_a_new_phase_not_a_burst(make_site: Any) -> None:
    site = make_site(poll_interval_s=30)
    schedule(site, next_poll_at=timezone.now() - timedelta(hours=1))
    claim(beat=False)
    wait = PollSchedule.objects.using("owner").get(site=site).next_poll_at - timezone.now()
    assert timedelta(seconds=14) < wait <= timedelta(seconds=30)


def test_new_sites_start_with_spread_phases(make_site: Any) -> None:
    for _ in range(12):
        make_site(poll_interval_s=30)
    phases = {row.next_poll_at for row in PollSchedule.objects.using("owner").all()}
    assert len(phases) == 12
    assert max(phases) - min(phases) > timedelta(seconds=3)
    assert max(phases) <= timezone.now() + timedelta(seconds=30)


def test_planned_and_retired_sites_are_not_polled(make_site: Any) -> None:
    make_site(life="planned")
    site = make_site()
    change_life(actor=TEST, rights=everything(), site=site, life="retired")
    PollSchedule.objects.using("owner").update(next_poll_at=timezone.now())
    assert claimed() == []


def test_poll_now_makes_a_site_due(make_site: Any) -> None:
    site = make_site()
    schedule(site, next_poll_at=timezone.now() + timedelta(seconds=300))
    poll_now(actor=TEST, rights=everything(), site=site)
    assert claimed() == [site.pk]


def test_shards_go_to_their_pollers_and_idle_pollers_get_their_beat(make_site: Any) -> None:
    sites = [make_site() for _ in range(4)]
    PollSchedule.objects.using("owner").update(next_poll_at=timezone.now())
    try:
        map_pollers(3)
        batches = claim(beat=True)
        assert {pk: batch.poller for batch in batches for pk in batch.site_ids} == {
            site.pk: site.pk % 64 % 3 for site in sites
        }
        assert {batch.poller for batch in claim(beat=True)} == {0, 1, 2}
    finally:
        map_pollers(1)
    with pytest.raises(ValueError, match="64"):
        map_pollers(65)


def test_messages_expire_after_the_shortest_interval_of_their_batch(make_site: Any) -> None:
    make_site(poll_interval_s=60)
    make_site(poll_interval_s=10)
    PollSchedule.objects.using("owner").update(next_poll_at=timezone.now())
    assert [batch.expires_s for batch in claim(beat=False)] == [10]


def test_claims_at_the_same_time_share_no_site(make_site: Any) -> None:
    """A second tick meets a row that the first holds: it skips it instead of waiting."""
    first, second = make_site(), make_site()
    PollSchedule.objects.using("owner").update(next_poll_at=timezone.now())
    from django.db import connections

    with connections["owner"].cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT 1 FROM edge_sites_pollschedule WHERE site_id = %s FOR UPDATE", [first.pk])
        assert claimed() == [second.pk]
        cursor.execute("ROLLBACK")
    assert claimed() == [first.pk]
    assert connection.in_atomic_block is False
