"""Screens of the whole fleet: what they show, to whom, and in how many queries."""

import json
from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from sites.models import Provider, Site, SiteState

pytestmark = pytest.mark.usefixtures("plain_static")
MakeSite = Callable[..., Site]
SignedIn = Callable[..., Client]
OVERVIEW_QUERIES = 27
FRAGMENTS = ("/overview/attention/", "/overview/timeline/", "/overview/figures/")
PAGES = ("/", "/wall/", "/providers/", "/sites/", "/search/?q=e", *FRAGMENTS)
FOREIGN = ("/overview/panel/theirs/", "/sites/theirs/", "/sites/theirs/samples.json", "/providers/foreign/")


def queries(client: Client, path: str) -> int:
    with CaptureQueriesContext(connection) as seen:
        assert client.get(path).status_code == 200
    return len(seen)


def shown_as(site: Site, **values: object) -> None:
    SiteState.objects.using("owner").filter(site=site).update(**values)


def test_the_overview_asks_as_often_for_three_sites_as_for_one(make_site: MakeSite, signed_in: SignedIn) -> None:
    client = signed_in("operator")
    shown_as(make_site("one"), shown="down")
    first = queries(client, "/")
    for slug in ("two", "three"):
        shown_as(make_site(slug), shown="down")
    assert queries(client, "/") == first <= OVERVIEW_QUERIES


def test_figures_add_up_to_the_active_sites(make_site: MakeSite, signed_in: SignedIn) -> None:
    for slug, values in {
        "a": {"shown": "up"},
        "b": {"shown": "down"},
        "c": {"shown": "unknown", "reachability": "unreachable"},
        "d": {"shown": "unknown"},
    }.items():
        shown_as(make_site(slug), **values)
    make_site("planned", life="planned")
    context = signed_in("viewer").get("/").context
    assert {row["kind"]: row["count"] for row in context["figures"]} == {
        "up": 1,
        "degraded": 0,
        "down": 1,
        "unreachable": 1,
        "unknown": 1,
    }
    assert [(row["site"].slug, row["kind"]) for row in context["attention"]["rows"]] == [
        ("b", "down"),
        ("c", "unreachable"),
    ]


def test_a_clock_that_is_far_off_needs_somebody(make_site: MakeSite, signed_in: SignedIn) -> None:
    for slug, reachability, off_ms in (
        ("right", "reachable", 299_999),
        ("late", "reachable", -300_000),
        ("early", "reachable", 63_072_000_000),
        ("away", "unreachable", 63_072_000_000),
    ):
        shown_as(make_site(slug), shown="up", reachability=reachability, clock_offset_ms=off_ms)
    attention = signed_in("viewer").get("/").context["attention"]
    assert [(row["site"].slug, row.get("why")) for row in attention["rows"] if row.get("matter")] == [
        ("early", "Its clock is 730 d ahead of ours"),
        ("late", "Its clock is 5 min behind ours"),
    ]
    assert attention["total"] == 3  # and the one that is away
    html = signed_in("viewer").get("/overview/attention/?q=early").content.decode()
    assert "730 d ahead of ours" in html
    assert "behind ours" not in html


def test_the_overviews_filters_are_those_of_the_url(make_site: MakeSite, signed_in: SignedIn) -> None:
    for slug, region in (("north-1", "North"), ("south-1", "South"), ("south-2", "South")):
        shown_as(make_site(slug, region=region), shown="down")
    client = signed_in("viewer")
    listed = client.get("/overview/attention/?region=South&q=south+1").content.decode()
    assert "South 1" in listed
    assert "North 1" not in listed
    assert "South 2" not in listed
    assert client.get("/?state=down&region=South").context["figures"][2]["is_on"]


def test_the_snapshot_is_asked_for_once(make_site: MakeSite, signed_in: SignedIn) -> None:
    site = make_site("one", lat=47.123456, lon=8.5)
    client = signed_in("viewer")
    answer = client.get("/map.json")
    body = json.loads(answer.content)
    row = dict(zip(body["columns"], body["sites"][0], strict=True))
    assert (row["slug"], row["lat"], row["state"], row["provider"]) == ("one", 47.1235, "unknown", site.provider_id)
    assert body["providers"] == {str(site.provider_id): site.provider.name}
    assert client.get("/map.json", headers={"if-none-match": answer["ETag"]}).status_code == 304
    make_site("two")
    assert client.get("/map.json", headers={"if-none-match": answer["ETag"]}).status_code == 200


def test_two_viewers_do_not_share_a_snapshot(
    make_site: MakeSite, make_provider: Callable[..., Provider], signed_in: SignedIn
) -> None:
    own, foreign = make_provider("own"), make_provider("foreign")
    make_site("mine", provider=own)
    make_site("theirs", provider=foreign)
    etag = signed_in("viewer").get("/map.json")["ETag"]
    answer = signed_in("provider_viewer", provider=own).get("/map.json", headers={"if-none-match": etag})
    assert answer.status_code == 200
    assert b"theirs" not in answer.content
    assert b"foreign" not in answer.content.lower()


@pytest.mark.parametrize("path", PAGES)
def test_a_provider_reads_nothing_foreign(
    make_site: MakeSite, make_provider: Callable[..., Provider], signed_in: SignedIn, path: str
) -> None:
    own, foreign = make_provider("own", name="Own"), make_provider("foreign", name="Zzforeign")
    shown_as(make_site("mine", provider=own), shown="down")
    shown_as(make_site("zz-theirs", provider=foreign, region="Zzregion"), shown="down")
    text = signed_in("provider_operator", provider=own).get(path).content.decode().lower()
    assert [word for word in ("zzforeign", "zz-theirs", "zz theirs", "zzregion") if word in text] == []


@pytest.mark.parametrize("path", FOREIGN)
def test_foreign_is_not_there(
    make_site: MakeSite, make_provider: Callable[..., Provider], signed_in: SignedIn, path: str
) -> None:
    make_site("theirs", provider=make_provider("foreign"))
    client = signed_in("provider_operator", provider=make_provider("own"))
    assert client.get(path).status_code == 404
    assert client.get("/?site=theirs").context["panel"] is None


def test_hostile_text_is_text(make_site: MakeSite, signed_in: SignedIn) -> None:
    nasty = "<script>alert(1)</script><b hx-get=/x>\u202e"
    site = make_site("nasty", name=nasty, contacts=nasty, notes=nasty, region="<i>r</i>", place="<i>p</i>")
    shown_as(site, shown="down", reasons=[nasty], workloads=[{"name": nasty, "state": nasty}], last_error_detail=nasty)
    client = signed_in("admin")
    for path in (*PAGES, "/?site=nasty", "/sites/nasty/", "/sites/nasty/edit/", "/search/?q=script"):
        text = client.get(path).content.decode()
        assert "<script>alert" not in text, path
        assert "<b hx-get" not in text, path
        assert "<i>" not in text, path


def test_search_finds_every_word_and_gives_a_fragment_to_htmx(make_site: MakeSite, signed_in: SignedIn) -> None:
    make_site("oslo-depot")
    make_site("oslo-shop")
    client = signed_in("viewer")
    answer = client.get("/search/?q=oslo dep", headers={"hx-request": "true"})
    assert b"Oslo Depot" in answer.content
    assert b"Oslo Shop" not in answer.content
    assert b"<html" not in answer.content
    assert "HX-Request" in answer["Vary"]


def test_views_of_the_list_are_kept_by_person(make_site: MakeSite, signed_in: SignedIn) -> None:
    client, other = signed_in("viewer"), signed_in("viewer")
    answer = client.post("/views/keep/", {"name": "Mine <b>", "query": "state=down&sort=-name"})
    assert answer.headers["Location"] == "/sites/?state=down&sort=-name"
    assert b"?state=down&amp;sort=-name" in client.get("/sites/").content
    assert b"Mine &lt;b&gt;" in client.get("/sites/").content
    assert b"Mine" not in other.get("/sites/").content
    assert client.post("/views/keep/", {"name": " ", "query": ""}).status_code == 422
    client.post("/views/forget/", {"name": "Mine <b>", "query": ""})
    assert b"Mine" not in client.get("/sites/").content


def test_the_api_describes_itself(signed_in: SignedIn) -> None:
    text = signed_in("viewer").get("/api/docs").content.decode()
    assert "/api/v1/sites/{slug}/samples" in text
    assert "SiteDetailOut" in text


def test_a_fragment_of_an_expired_page_sends_the_browser_to_sign_in(client: Client) -> None:
    answer = client.get("/overview/attention/", headers={"hx-request": "true"})
    assert (answer.status_code, answer["HX-Redirect"].split("?")[0]) == (286, "/accounts/login/")
