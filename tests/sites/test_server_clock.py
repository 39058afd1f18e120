"""Row 10 of the matrix, our side: a server's clock ten minutes off. Leases and due times are the database's."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from agent.protocol.desired import DesiredStatus, PutDesired
from sites.models import JoinToken, JournalCursor, PollSchedule, SiteDesired, SiteIdentity, SiteState
from sites.selectors.desired import Delivery, deliveries, to_sign
from sites.selectors.polling import poll_targets
from sites.services import desired
from sites.services.backfill import note_problem
from sites.services.claims import claim
from sites.services.delivery import Told, record_answers, record_failures, record_told
from sites.services.dial_out import renew_leases
from sites.services.joining import JOIN_HOURS, make_join
from tests.conftest import TEST, everything
from tests.sites.joined import owned, present
from tests.sites.told import document

pytestmark = pytest.mark.usefixtures("database")
SOON = timedelta(seconds=30)


@pytest.fixture(params=[-600, 600], ids=["behind", "ahead"])
def wrong(request: Any, monkeypatch: Any) -> None:
    """This process's clock is ten minutes off; PostgreSQL's is not."""
    off = timedelta(seconds=request.param)
    monkeypatch.setattr(timezone, "now", lambda: datetime.now(UTC) + off)


@pytest.fixture
def oslo(make_site: Any, certified: Any) -> Any:
    site = make_site("oslo", life="active")
    identity = present(site, pre_authorised=True)
    certified(site)
    return owned(type(site)).get(pk=site.pk), identity


def near(moment: datetime | None, after: timedelta) -> bool:
    """Whether it is that long after the present, to half a minute."""
    return moment is not None and abs(moment - datetime.now(UTC) - after) < SOON


def test_a_site_that_calls_in_is_reached_through_its_gateway(oslo: Any, wrong: None) -> None:
    site, _ = oslo
    assert renew_leases("gateway.sock", [site.pk], []) == set()
    row = owned(PollSchedule).get(site=site)
    assert near(row.gateway_until, timedelta(seconds=60))
    assert near(row.next_poll_at, timedelta())
    assert [batch.site_ids for batch in claim(beat=False)] == [(site.pk,)]
    (target,) = poll_targets([site.pk])
    assert target.peer.gateway == "gateway.sock"


def due(site: Any) -> list[Delivery]:
    owned(SiteDesired).filter(site=site).update(due_at=datetime.now(UTC))
    return deliveries(poller=0, limit=10)


def test_documents_are_signed_handed_over_asked_for_and_tried_again_in_time(oslo: Any, wrong: None) -> None:
    site, _ = oslo
    owned(SiteState).filter(site=site).update(reachability="reachable", misses=0)
    given = desired.apply(actor=TEST, rights=everything(), site=site, content={}, reason="at once")
    assert near(given.issued_at, timedelta())
    assert near(given.expires_at, timedelta(days=7))
    assert to_sign(poller=0, limit=10) == [given.pk]
    owned(SiteDesired).filter(site=site).delete()
    owned(type(given)).filter(site=site).delete()
    row = document(site)
    (delivery,) = due(site)
    record_failures([delivery])
    assert near(owned(SiteDesired).get().due_at, timedelta(seconds=5))
    (delivery,) = due(site)
    record_answers([(delivery, PutDesired(state="accepted"))])
    assert near(owned(SiteDesired).get().due_at, timedelta(seconds=60))
    (delivery,) = due(site)
    status = DesiredStatus(epoch=1, version=0, sha256=None, state="none")  # it was set up anew
    record_told([(delivery, Told(status, None, b""))])
    assert near(owned(SiteDesired).get().due_at, timedelta())
    assert [one.document_id for one in deliveries(poller=0, limit=10)] == [row.pk]


def test_a_journal_with_a_problem_is_read_again_in_time(oslo: Any, wrong: None) -> None:
    site, _ = oslo
    keys = owned(SiteIdentity).get(site=site)
    note_problem(site.pk, "cannot be read", identity_id=keys.pk, alarm=False)
    assert near(owned(JournalCursor).get(site=site).next_at, timedelta(minutes=15))


def test_a_join_string_lives_as_long_as_it_says(make_site: Any, wrong: None) -> None:
    site = make_site("bergen", life="planned")
    make_join(actor=TEST, rights=everything(), site=site, root_sha256=b"r" * 32)
    token = owned(JoinToken).get()
    assert abs(token.expires_at - token.made_at - timedelta(hours=JOIN_HOURS)) < SOON
