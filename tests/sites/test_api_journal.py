"""A site's journal and time line through the API."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from agent.protocol.entries import Gap
from agent.protocol.journal import open_page
from sites.models import JournalEnvelope, SiteState
from sites.services.backfill import note_problem
from tests.conftest import everything
from tests.openapi import assert_error
from tests.sites.journaled import NOW, OWNER, SiteWithJournal


@pytest.fixture
def read(told):
    """Twelve hours without a link, with an outage and a loss inside, read to the end but for four entries."""
    told.verdict(800, "up")
    told.live(799, 401)
    told.verdict(400.5, "down")
    told.live(400, 371)
    told.verdict(370.5, "up")
    told.write(370.4, Gap(3, 5, {"sample": 3}, "bound"))
    told.live(370, 1)
    told.read_all()
    seq, _ = told.journal.head(told.site.uuid)
    SiteState.objects.using(OWNER).filter(site=told.site).update(journal_seq=seq + 4)
    return told


def get(client: Any, told: SiteWithJournal, what: str = "journal", **query: Any) -> Any:
    query = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in query.items()}
    return client.get(f"/api/v1/sites/{told.site.slug}/{what}", query)


def test_entries_come_in_order_with_where_they_are_proven(read, api_client):
    items = get(api_client("viewer"), read).json()["items"]
    assert [(item["seq"], item["kind"]) for item in items] == [
        (1, "verdict"),
        (401, "verdict"),
        (432, "verdict"),
        (433, "gap"),
    ]
    assert items[1]["body"]["state"] == "down"
    assert datetime.fromisoformat(items[1]["mapped_at"]) == NOW - timedelta(minutes=400.5)
    assert {item["identity"] for item in items} == {read.identity.pk}
    assert {item["envelope"] for item in items} == {JournalEnvelope.objects.using(OWNER).get().pk}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"kind": "gap"}, [433]),
        ({"kind": "start"}, []),
        ({"since": NOW - timedelta(minutes=400.5)}, [401, 432, 433]),
        ({"until": NOW - timedelta(minutes=400.5)}, [1]),
        ({"kind": "verdict", "since": NOW - timedelta(minutes=500), "until": NOW - timedelta(minutes=380)}, [401]),
    ],
)
def test_entries_by_kind_and_time(read, api_client, query, found):
    assert [item["seq"] for item in get(api_client("viewer"), read, **query).json()["items"]] == found


def test_a_kind_that_is_none_is_refused(read, api_client):
    assert_error(get(api_client("viewer"), read, kind="rumour"), 422, "invalid")


def test_pages_of_entries_follow_one_another(read, api_client):
    client, found, cursor = api_client("viewer"), [], ""
    while cursor is not None:
        page = get(client, read, limit=2, **({"cursor": cursor} if cursor else {})).json()
        found.append([item["seq"] for item in page["items"]])
        cursor = page["next"]
    assert found == [[1, 401], [432, 433]]


def test_how_far_it_was_read_and_what_is_waited_for(read, api_client):
    body = get(api_client("viewer"), read, "journal/cursor").json()
    seq, head = read.journal.head(read.site.uuid)
    assert {name: body[name] for name in ("seq", "head", "acked", "written", "waiting", "problem", "keys_since")} == {
        "seq": seq,
        "head": head,
        "acked": 0,
        "written": seq + 4,
        "waiting": 4,
        "problem": "",
        "keys_since": None,
    }


def test_a_site_that_never_wrote(make_site, api_client):
    make_site("silent")
    body = api_client("viewer").get("/api/v1/sites/silent/journal/cursor").json()
    assert body == {
        "seq": 0,
        "head": "",
        "acked": 0,
        "written": None,
        "waiting": 0,
        "problem": "",
        "read_at": None,
        "next_at": None,
        "identity": None,
        "keys_since": None,
    }


def test_what_is_wrong_with_a_journal_is_said(read, api_client):
    note_problem(read.site.pk, "its journal is refused", identity_id=read.identity.pk, alarm=True)
    assert get(api_client("viewer"), read, "journal/cursor").json()["problem"] == "its journal is refused"


def test_a_signed_page_is_handed_out_as_it_came_with_the_key_to_check_it(read, api_client):
    client = api_client("viewer")
    (listed,) = get(client, read, "journal/envelopes").json()["items"]
    answer = get(client, read, f"journal/envelopes/{listed['id']}")
    assert answer.status_code == 200
    assert answer["Content-Disposition"] == f'attachment; filename="{read.site.slug}-journal-1-803.dsse.json"'
    assert answer["Cache-Control"] == "private, no-store"
    assert len(answer.content) == listed["bytes"]
    key = bytes.fromhex(listed["signing_key"])
    page = open_page(answer.content, site=read.site.uuid, signing_key=key, after=0, prev=None)
    assert (page.to, page.head) == (listed["to_seq"], listed["head"]) == (803, read.journal.head(read.site.uuid)[1])
    assert (listed["holes"], listed["identity"]) == ([], read.identity.pk)


@pytest.mark.parametrize("number", ["0", "-1", "99999", str(2**63), str(2**70)])
def test_a_page_that_is_not_there(read, api_client, number):
    assert_error(get(api_client("viewer"), read, f"journal/envelopes/{number}"), 404, "not_found")


def test_a_page_of_another_site_is_not_found_under_this_one(read, make_site, api_client):
    make_site("other")
    page = JournalEnvelope.objects.using(OWNER).get()
    assert_error(api_client("viewer").get(f"/api/v1/sites/other/journal/envelopes/{page.pk}"), 404, "not_found")


@pytest.mark.parametrize("what", ["journal", "journal/cursor", "journal/envelopes", "journal/envelopes/1", "timeline"])
def test_of_a_foreign_site_there_is_nothing(read, make_provider, api_client, what):
    client = api_client("viewer", provider=make_provider("stranger"))
    assert_error(get(client, read, what), 404, "not_found")


def test_what_was_written_under_another_provider_stays_with_it(read, make_provider, api_client):
    from sites.services.sites import update_site
    from tests.conftest import TEST

    new = make_provider("new-owner")
    update_site(actor=TEST, rights=everything(), site=read.site, values={"provider": new})
    client = api_client("viewer", provider=new)
    assert get(client, read).json()["items"] == []
    assert get(client, read, "journal/envelopes").json()["items"] == []
    assert_error(get(client, read, "journal/envelopes/1"), 404, "not_found")
    (availability, _) = get(client, read, "timeline").json()["axes"]
    assert len(availability["intervals"]) == 1


# The time line ----------------------------------------------------------------------------------------------
def short(axis: dict[str, Any]) -> list[tuple[str, str, bool]]:
    return [(row["state"], row["source"], row["superseded_at"] is not None) for row in axis["intervals"]]


def test_the_time_line_is_what_stands(read, api_client):
    span = {"from": NOW - timedelta(minutes=2000), "to": NOW}
    body = get(api_client("viewer"), read, "timeline", **span).json()
    availability, reachability = body["axes"]
    assert (availability["axis"], reachability["axis"]) == ("availability", "reachability")
    assert short(availability) == [("up", "journal", False), ("down", "journal", False), ("up", "journal", False)]
    assert datetime.fromisoformat(body["since"]) == span["from"]
    down = availability["intervals"][1]
    assert down["evidence"]["journal"] == {
        "from_seq": 401,
        "to_seq": 432,
        "why": "verdict",
        "identity": read.identity.pk,
    }


def test_the_time_line_with_what_was_recorded_before(read, api_client):
    span = {"from": NOW - timedelta(minutes=2000), "to": NOW, "axis": "availability", "superseded": "true"}
    (availability,) = get(api_client("viewer"), read, "timeline", **span).json()["axes"]
    assert sorted(short(availability)) == [
        ("down", "journal", False),
        ("unknown", "poll", True),
        ("up", "journal", False),
        ("up", "journal", False),
        ("up", "poll", True),
        ("up", "poll", True),
    ]


@pytest.mark.parametrize(
    "query",
    [
        {"from": NOW, "to": NOW},
        {"from": NOW - timedelta(days=401), "to": NOW},
        {"axis": "mood"},
        {"from": "0001-01-01T00:00:00Z", "to": "0001-01-01T00:00:00Z"},
    ],
)
def test_a_span_that_cannot_be_is_refused(read, api_client, query):
    assert_error(get(api_client("viewer"), read, "timeline", **query), 422, "invalid")


# Queries ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("what", "count"), [("journal", 1), ("journal/envelopes", 1), ("timeline", 1)])
def test_queries_do_not_grow_with_rows(told, api_client, what, count):
    client, taken = api_client("viewer"), []
    for state in ("down", "up", "degraded"):
        told.verdict({"down": 600, "up": 500, "degraded": 400}[state], state)
        told.read_all()
        with CaptureQueriesContext(connections["default"]) as queries:
            assert get(client, told, what).status_code == 200
        taken.append(len([query for query in queries if "edge_sites_" in query["sql"]]))
    assert taken[0] == taken[2]
    assert taken[2] <= count + 3
