"""Screens of sites and providers: lists, forms, import and export, and what is done to a site."""

import base64
import csv
import io
import json
import zlib
from collections.abc import Callable

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from fleet.kit.models import AuditEntry
from sites.models import Acknowledgement, Provider, Site, SiteState

pytestmark = pytest.mark.usefixtures("plain_static")
MakeSite = Callable[..., Site]
MakeProvider = Callable[..., Provider]
SignedIn = Callable[..., Client]
LIST_QUERIES = 17


def rows(client: Client, query: str = "") -> list[str]:
    return [row.record.slug for row in client.get(f"/sites/{query}").context["table"].paginated_rows]


def shown_as(site: Site, **values: object) -> None:
    SiteState.objects.using("owner").filter(site=site).update(**values)


def stored(slug: str) -> Site:
    return Site.objects.using("owner").get(slug=slug)


# The list ---------------------------------------------------------------------------------------------------
def test_the_list_asks_as_often_for_three_sites_as_for_one(make_site: MakeSite, signed_in: SignedIn) -> None:
    client = signed_in("operator")
    counts = []
    for slug in ("one", "two", "three"):
        make_site(slug)
        with CaptureQueriesContext(connection) as seen:
            assert client.get("/sites/").status_code == 200
        counts.append(len(seen))
    assert counts[0] == counts[2] <= LIST_QUERIES


def test_the_list_filters_and_sorts_by_its_url(make_site: MakeSite, signed_in: SignedIn) -> None:
    for number, (slug, state, region) in enumerate((("a", "up", "X"), ("b", "down", "X"), ("c", "degraded", "Y"))):
        shown_as(make_site(slug, region=region), shown=state, cpu_ratio=number / 10)
    shown_as(make_site("d"), shown="unknown", reachability="unreachable")
    make_site("gone", life="planned")
    Site.objects.using("owner").filter(slug="gone").update(life="retired")
    client = signed_in("viewer")
    assert rows(client) == ["a", "b", "c", "d"]
    assert rows(client, "?state=down,unreachable") == ["b", "d"]
    assert rows(client, "?state=unknown") == []
    assert rows(client, "?region=X&sort=-name") == ["b", "a"]
    assert rows(client, "?sort=state") == ["b", "d", "c", "a"]
    assert rows(client, "?sort=-cpu") == ["c", "b", "a", "d"]
    assert rows(client, "?life=retired") == ["gone"]
    assert rows(client, "?life=all&q=GON") == ["gone"]
    assert rows(client, "?per_page=25&page=99") == ["a", "b", "c", "d"]
    assert rows(client, "?region=nonsense&provider=x&sort=nonsense") == rows(client)


def test_columns_are_chosen_in_the_url(make_site: MakeSite, signed_in: SignedIn) -> None:
    make_site("one")
    client = signed_in("viewer")

    def names(query: str) -> list[str]:
        return [column.name for column in client.get(f"/sites/{query}").context["table"].columns]

    assert names("?cols=zone,address") == ["name", "address", "zone"]
    assert names("?cols=zone&cols=address") == ["name", "address", "zone"]
    assert "cpu" in names("?cols=nonsense")


def test_the_list_is_a_fragment_for_htmx(make_site: MakeSite, signed_in: SignedIn) -> None:
    make_site("one")
    answer = signed_in("viewer").get("/sites/", headers={"hx-request": "true"})
    assert answer.content.lstrip().startswith(b'<div class="card" id="sites"')
    assert "HX-Request" in answer["Vary"]


def test_empty_lists_say_what_to_do_next(signed_in: SignedIn) -> None:
    assert b"Add the first" in signed_in("operator").get("/sites/").content
    assert b"Add the first" not in signed_in("viewer").get("/sites/").content
    assert b"No site passes these filters" in signed_in("viewer").get("/sites/?q=x").content


def test_the_export_is_filtered_scoped_and_defused(
    make_site: MakeSite, make_provider: MakeProvider, signed_in: SignedIn
) -> None:
    own = make_provider("own")
    make_site("mine", provider=own, name='=HYPERLINK("x")', lon=-3.7)
    make_site("other", provider=own)
    make_site("theirs")
    answer = signed_in("provider_viewer", provider=own).get("/sites/export.csv?q=mine")
    found = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert [row["slug"] for row in found] == ["mine"]
    assert found[0]["name"] == '\'=HYPERLINK("x")'
    assert found[0]["lon"] == "-3.7"


def test_picked_sites_are_polled_now_and_foreign_ones_are_not(
    make_site: MakeSite, make_provider: MakeProvider, signed_in: SignedIn
) -> None:
    own = make_provider("own")
    mine, theirs, planned = (
        make_site("mine", provider=own),
        make_site("theirs"),
        make_site("p", provider=own, life="planned"),
    )
    client = signed_in("provider_operator", provider=own)
    picked = {"pick": [mine.pk, theirs.pk, planned.pk, "x", "99999999999999"], "action": "poll", "query": "q=m"}
    answer = client.post("/sites/bulk/", picked, follow=True)
    assert answer.redirect_chain == [("/sites/?q=m", 302)]
    assert b"1 site polled now. 1 could not be" in answer.content
    polled = AuditEntry.objects.using("owner").filter(action="site.poll_now")
    assert [entry.object_id for entry in polled] == [str(mine.pk)]


# Forms ------------------------------------------------------------------------------------------------------
def form(provider: Provider, /, **values: object) -> dict[str, object]:
    return {
        "name": "Oslo",
        "slug": "oslo",
        "provider": provider.pk,
        "ring": "stable",
        "time_zone": "Europe/Oslo",
        "lat": "59.9",
        "lon": "10.7",
        "address": "oslo.example.net:9100",
        "poll_interval_s": "30",
        "labels": "floor=2\n\nkind=shop",
        "begin": "on",
        **values,
    }


def test_a_site_is_made_by_form(make_provider: MakeProvider, signed_in: SignedIn) -> None:
    answer = signed_in("operator").post("/sites/new/", form(make_provider()))
    assert (answer.status_code, answer["Location"]) == (302, "/sites/oslo/")
    site = stored("oslo")
    assert (site.life, site.labels, site.lat) == ("active", {"floor": "2", "kind": "shop"}, 59.9)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lat", "91"),
        ("lat", "nan"),
        ("lon", "-180.5"),
        ("lon", "inf"),
        ("time_zone", "Mars/Olympus"),
        ("address", "no-port"),
        ("slug", "Not A Slug"),
        ("labels", "no sign"),
        ("poll_interval_s", "0"),
        ("name", "a\x00b"),
        ("provider", "999999"),
        ("country", "NOR"),
    ],
)
def test_what_cannot_be_taken_is_said_at_its_field(
    make_provider: MakeProvider, signed_in: SignedIn, field: str, value: str
) -> None:
    answer = signed_in("operator").post("/sites/new/", form(make_provider(), **{field: value}))
    assert answer.status_code == 422
    assert list(answer.context["form"].errors) == [field]
    assert not Site.objects.using("owner").exists()


def test_a_taken_slug_is_said_even_if_it_is_foreign(make_site: MakeSite, signed_in: SignedIn) -> None:
    site = make_site("oslo")
    answer = signed_in("operator").post("/sites/new/", form(site.provider))
    assert answer.status_code == 422
    assert list(answer.context["form"].errors) == ["slug"]


def test_a_site_is_changed_by_form(make_site: MakeSite, signed_in: SignedIn) -> None:
    site = make_site("oslo")
    answer = signed_in("operator").post("/sites/oslo/edit/", form(site.provider, name="Oslo 2"))
    assert (answer.status_code, answer["Location"]) == (302, "/sites/oslo/")
    assert stored("oslo").name == "Oslo 2"


@pytest.mark.parametrize("role", ["viewer", "manager", "provider_viewer", "provider_operator"])
def test_who_may_not_change_sites_changes_none(make_site: MakeSite, signed_in: SignedIn, role: str) -> None:
    site = make_site("oslo")
    client = signed_in(role, **({"provider": site.provider} if role.startswith("provider") else {}))
    assert client.post("/sites/new/", form(site.provider, slug="new-one")).status_code == 403
    assert client.post("/sites/oslo/edit/", form(site.provider, name="Changed")).status_code == 403
    assert client.post("/sites/oslo/life/", {"life": "retired"}).status_code == 403
    assert client.post("/sites/import/", {"packed": ""}).status_code == 403
    assert client.post("/providers/new/", {"name": "P", "slug": "p"}).status_code == 403
    assert (stored("oslo").name, stored("oslo").life, Site.objects.using("owner").count()) == ("Oslo", "active", 1)
    page = client.get("/sites/oslo/").content
    assert b">Retire<" not in page
    assert b"/edit/" not in page


def test_places_are_found_offline(signed_in: SignedIn) -> None:
    text = signed_in("operator").get("/sites/places/?place=Zürich").content.decode()
    assert 'data-time_zone="Europe/Zurich"' in text


# What is done to a site -------------------------------------------------------------------------------------
def test_poll_now_answers_htmx_with_a_toast_and_a_browser_with_its_page(
    make_site: MakeSite, signed_in: SignedIn
) -> None:
    make_site("oslo")
    client = signed_in("operator")
    answer = client.post("/sites/oslo/poll-now/", headers={"hx-request": "true"})
    assert answer.status_code == 204
    assert json.loads(answer["HX-Trigger"])["toast"]["text"] == "Oslo is being polled."
    assert client.post("/sites/oslo/poll-now/")["Location"] == "/sites/oslo/"
    away = client.post("/sites/oslo/poll-now/", headers={"referer": "https://evil.example/"})
    assert away["Location"] == "/sites/oslo/"
    back = client.post("/sites/oslo/poll-now/", headers={"referer": "http://testserver/sites/?q=o"})
    assert back["Location"] == "http://testserver/sites/?q=o"
    assert client.get("/sites/oslo/poll-now/").status_code == 405


def test_taking_trouble(make_site: MakeSite, signed_in: SignedIn) -> None:
    site = make_site("oslo")
    client = signed_in("operator", username="nina")
    shown_as(site, shown="up", reachability="reachable")
    assert client.post("/sites/oslo/acknowledge/").status_code == 409
    shown_as(site, shown="down")
    assert client.post("/sites/oslo/acknowledge/", {"note": "x" * 501}).status_code == 422
    assert not Acknowledgement.objects.using("owner").exists()
    assert client.post("/sites/oslo/acknowledge/", {"note": "On my way"}).status_code == 302
    page = client.get("/sites/oslo/").content.decode()
    assert "nina" in page
    assert "On my way" in page


def test_a_viewer_takes_and_polls_nothing(make_site: MakeSite, signed_in: SignedIn) -> None:
    shown_as(make_site("oslo"), shown="down")
    client = signed_in("viewer")
    assert client.post("/sites/oslo/acknowledge/").status_code == 403
    assert client.post("/sites/oslo/poll-now/").status_code == 403
    assert not Acknowledgement.objects.using("owner").exists()
    assert b"Take" not in client.get("/overview/panel/oslo/").content


def test_samples_have_columns_of_equal_length(make_site: MakeSite, signed_in: SignedIn) -> None:
    make_site("oslo")
    for span in ("1h", "30d", "nonsense"):
        body = signed_in("viewer").get(f"/sites/oslo/samples.json?range={span}").json()
        assert {len(body[name]) for name in ("t", "cpu", "mem", "disk", "rx", "tx", "temp", "power", "rtt")} == {0}
        assert body["bands"] == []


# Import -----------------------------------------------------------------------------------------------------
HEADER = "slug,name,provider,address,place,life"


def upload(client: Client, data: bytes) -> object:
    return client.post("/sites/import/", {"file": SimpleUploadedFile("sites.csv", data)})


def test_a_file_is_previewed_and_then_imported(make_provider: MakeProvider, signed_in: SignedIn) -> None:
    make_provider("nord")
    client = signed_in("operator")
    lines = (HEADER, "oslo,Oslo,nord,o.example.net:9100,Oslo,active", "bergen,'=Bergen,nord,b.example.net:9100,Bergen,")
    answer = upload(client, ("\ufeff" + "\r\n".join(lines)).encode())
    assert answer.status_code == 200
    assert not Site.objects.using("owner").exists()
    done = client.post("/sites/import/", {"packed": answer.context["packed"]}, follow=True)
    assert b"2 sites imported." in done.content
    assert (stored("oslo").time_zone, stored("oslo").life) == ("Europe/Oslo", "active")
    assert (stored("bergen").name, stored("bergen").life) == ("=Bergen", "planned")
    again = client.post("/sites/import/", {"packed": answer.context["packed"]})
    assert again.status_code == 422
    assert Site.objects.using("owner").count() == 2


@pytest.mark.parametrize(
    ("data", "line", "text"),
    [
        (b"slug,name\r\na,b\r\n", 1, "missing columns"),
        (f"{HEADER}\na,A,nowhere,a:1,Oslo,\n".encode(), 2, "no such provider"),
        (f"{HEADER}\na,A,nord,a:1,Oslo,\na,B,nord,a:1,Oslo,\n".encode(), 3, "line 2 has this slug too"),
        (b"\xff\xfe\x00", 1, "NUL"),
        (b"x" * (10 * 1024 * 1024 + 1), 1, "larger than 10 MB"),
    ],
)
def test_errors_come_by_line_and_nothing_is_imported(
    make_provider: MakeProvider, signed_in: SignedIn, data: bytes, line: int, text: str
) -> None:
    make_provider("nord")
    answer = upload(signed_in("operator"), data)
    assert answer.status_code == 422
    assert any(error.line == line and text in error.message for error in answer.context["errors"])
    assert answer.context["packed"] == ""
    assert not Site.objects.using("owner").exists()


def packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("text", ["", "!", packed(b"no zlib"), packed(zlib.compress(b"0" * 11_000_000))])
def test_a_second_step_that_was_tampered_with_imports_nothing(signed_in: SignedIn, text: str) -> None:
    assert signed_in("operator").post("/sites/import/", {"packed": text}).status_code == 422
    assert not Site.objects.using("owner").exists()


# Providers --------------------------------------------------------------------------------------------------
def test_the_list_of_providers_asks_as_often_for_three_as_for_one(
    make_site: MakeSite, make_provider: MakeProvider, signed_in: SignedIn
) -> None:
    client = signed_in("viewer")
    counts = []
    for number in range(3):
        make_site(provider=make_provider(f"p{number}"))
        with CaptureQueriesContext(connection) as seen:
            assert client.get("/providers/").status_code == 200
        counts.append(len(seen))
    assert counts[0] == counts[2]


def test_a_provider_is_made_and_changed_by_an_administrator(signed_in: SignedIn) -> None:
    client = signed_in("admin")
    values = {"name": "Nordgrid", "slug": "nord", "contact": "noc@nord.example", "allowed_networks": "203.0.113.0/24\n"}
    assert client.post("/providers/new/", values)["Location"] == "/providers/nord/"
    assert Provider.objects.using("owner").get().allowed_networks == ["203.0.113.0/24"]
    wrong = client.post("/providers/nord/edit/", values | {"allowed_networks": "nonsense"})
    assert list(wrong.context["form"].errors) == ["allowed_networks"]
    again = client.post("/providers/new/", values)
    assert again.status_code == 422
    assert client.post("/providers/nord/edit/", values | {"name": "Nord"}).status_code == 302
    assert Provider.objects.using("owner").get().name == "Nord"


def test_a_provider_shows_its_sites_that_are_not_up(
    make_site: MakeSite, make_provider: MakeProvider, signed_in: SignedIn
) -> None:
    provider = make_provider("nord")
    shown_as(make_site("good", provider=provider), shown="up")
    shown_as(make_site("bad", provider=provider), shown="down", reasons=["disk full"])
    context = signed_in("viewer").get("/providers/nord/").context
    assert [(row["site"].slug, row["why"]) for row in context["troubled"]] == [("bad", "disk full")]
    assert context["card"]["total"] == 2


@pytest.mark.parametrize(
    ("offset_ms", "said"),
    [
        (63_072_000_000, "Its clock is 730 d ahead of ours"),
        (-3_600_000, "Its clock is 1 h 00 min behind ours"),
        (5_001, "Its clock is 5 s ahead of ours"),
        (5_000, ""),
        (None, ""),
    ],
)
def test_a_clock_that_is_off_is_said(
    make_site: MakeSite, signed_in: SignedIn, offset_ms: int | None, said: str
) -> None:
    site = make_site()
    shown_as(site, clock_offset_ms=offset_ms)
    page = signed_in("viewer").get(f"/sites/{site.slug}/").content.decode()
    assert said in page
    assert ("Its clock" in page) == bool(said)
