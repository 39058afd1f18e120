"""Every address, as every kind of viewer, on what is its own and what is not."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from agent.protocol import Component
from fleet.kit.tenancy import scope
from fleet.people.selectors import access_of
from fleet.rollouts.services import planning
from fleet.standards.services.judging import judge_due
from sites.models import Provider, Site, SiteDesired
from sites.services.reports import record_reports
from slas.models import Incident
from slas.services.deriving import derive_due
from slas.services.disputes import attach_file, file_dispute
from slas.services.mailing import save_schedule
from slas.services.report_files import make_files
from slas.services.report_making import make_wanted
from slas.services.reports import ask_for_report
from slas.services.upkeep import request_window
from tests.conftest import TEST, everything
from tests.database import OWNER, rows, value
from tests.fleet.rollouts.receiver import one_webhook
from tests.fleet.standards.factories import make_ring, make_standard
from tests.meta.routes import (
    ACCOUNTS,
    API_ROOT,
    CONTRACT,
    DISPUTE,
    MACHINES,
    OUTAGE,
    PAGES,
    PLAIN,
    PROVIDER,
    REPORT,
    REPORT_FILE,
    RING,
    ROLLOUT,
    SCHEDULE,
    SITE,
    STANDARD,
    WEBHOOK,
    WINDOW,
    Route,
    known_patterns,
)
from tests.openapi import operations
from tests.sites.builders import polled
from tests.sites.identities import FINGERPRINT, certificate, enrolled, freeze_row, keys, ready_for
from tests.sites.told import document, receipt, standing, told_for
from tests.slas.factories import make_contract, segment
from tests.slas.signing import signer_of_files

pytestmark = pytest.mark.usefixtures("plain_static")

FOREIGN_WORDS = (b"quagga", b"Quagga", b"Qville", b"Islands-Q", b"9.9.9-q", b"203.0.113.77", b"owner-q", b"ring-q")

OWN = {
    SITE: "own-site",
    PROVIDER: "own",
    STANDARD: "own-r1",
    RING: "own-ring",
    ROLLOUT: "own-site",
    WEBHOOK: "1",
    CONTRACT: "own-contract",
    WINDOW: "1",
    OUTAGE: "1",
    DISPUTE: "1",
    REPORT: "own-site",
    REPORT_FILE: "own",
    SCHEDULE: "1",
}
MEMBERSHIPS: dict[str, dict[str, Any]] = {
    "provider_viewer": {"role": "provider_viewer", "provider": True},
    "provider_operator": {"role": "provider_operator", "provider": True},
    "viewer of a provider": {"role": "viewer", "provider": True},
    "operator of a provider": {"role": "operator", "provider": True},
    "manager of a provider": {"role": "manager", "provider": True},
    "admin of a provider": {"role": "admin", "provider": True},
    "viewer of a region": {"role": "viewer", "regions": ["DACH"]},
    "admin of a region": {"role": "admin", "regions": ["DACH"]},
    "operator of a label": {"role": "operator", "labels": {"tier": "1"}},
}


def calls(*about: str) -> list[Any]:
    """(route, method) of the pages about these."""
    return [
        pytest.param(route, method, id=f"{method} {route}")
        for route in PAGES
        if route.about in about
        for method in route.methods
    ]


@pytest.fixture
def fleet(make_provider: Any, make_site: Any, make_person: Any) -> Provider:
    """An own site, and a foreign one of which every word is telling. Returns the own provider."""
    own, foreign = make_provider("own", name="Own Hosting"), make_provider("quagga", name="Quagga Hosting")
    ours = make_site("own-site", own, region="DACH", labels={"tier": "1"})
    theirs = make_site(
        *("quagga-site", foreign),
        name="Quagga Site",
        place="Qville",
        region="Islands-Q",
        ring="ring-q",
        labels={"owner-q": "x"},
        address="203.0.113.77:9100",
        notes="Quagga note",
    )
    keys(theirs, host="quagga.example", agent="9.9.9-q", remote="203.0.113.77", fingerprint="ring-q")
    certificate(keys(theirs, "accepted", decided_by="Quagga Ltd"), serial="quagga-serial")
    freeze_row(theirs, "owner-q lost it")
    document(theirs, content={"workloads": []}, reason="Quagga reason", made_by="owner-q")
    receipt(theirs, detail="Quagga detail")
    standing(theirs, recovering=True)
    document(ours)
    enrolled(ours)
    keys(ours)
    for _ in range(3):
        record_reports([polled(ours, "down")], poller="test")
        record_reports([polled(theirs, "down", components=(Component("kernel", "linux", "9.9.9-q"),))], poller="test")
    make_ring(make_standard("own-r0"), "own-ring")
    make_standard("own-r1", state="draft", published_at=None, published_by="")
    judge_due()
    one_webhook("own-hook")
    _roll_out(make_person("operator", username="quagga-author"), ours, theirs)
    return own


def _roll_out(author: Any, ours: Site, theirs: Site) -> None:
    """Rollout 1 runs at both sites, rollout 2 is a plan for the foreign one; the own site's hold is number 1."""
    actor, rights = access_of(author)
    for name, sites in (("own rollout", [ours, theirs]), ("Quagga rollout", [theirs])):
        waves = [{"name": site.name, "sites": [site.pk], "why": "Quagga first"} for site in sites]
        values = {"name": name, "standard": "own-r0", "waves": waves}
        planning.plan_rollout(actor=actor, rights=rights, values=values)
    rows(
        "UPDATE rollouts_rollout SET state = 'paused', pause = 'stopped', reason = 'Quagga is closed',"
        " started_at = now(), is_live = true WHERE id = 1",
        using=OWNER,
    )
    rows("UPDATE rollouts_wave SET state = 'held', reason = 'Quagga failed' WHERE rollout_id = 1", using=OWNER)
    rows(
        "INSERT INTO rollouts_rolloutevent (rollout_id, at, actor, thing, event, state, wave, step_id, provider_id,"
        " sentence) SELECT s.rollout_id, now(), 'quagga', 'step', 'fail', 'failed', s.wave, s.id, s.provider_id,"
        " t.slug FROM rollouts_sitestep s JOIN edge_sites_site t ON t.id = s.site_id",
        using=OWNER,
    )
    for site in (ours, theirs):
        rows(
            "INSERT INTO rollouts_hold (provider_id, region, site_id, reason, until, made_by, lifted_by, overridden_by)"
            " VALUES (%s, '', %s, %s, now() + interval '1 day', 'somebody', '', '[]')",
            [site.provider_id, site.pk, f"{site.name} counts its stock"],
            using=OWNER,
        )


@pytest.fixture
def client_of(fleet: Provider, signed_in: Any) -> Any:
    """Browsers by the names of MEMBERSHIPS."""

    def make(member: str) -> Client:
        membership = dict(MEMBERSHIPS[member])
        if membership.get("provider"):
            membership["provider"] = fleet
        return signed_in(membership.pop("role"), **membership)

    return make


def contents() -> list[Any]:
    """All that a call could change."""
    tables = (
        *("edge_sites_site", "edge_sites_provider", "edge_sites_sitetenure", "edge_sites_acknowledgement"),
        *("edge_sites_pollschedule", "edge_sites_stateinterval", "kit_auditentry"),
        *("edge_sites_jointoken", "edge_sites_siteidentity", "edge_sites_sitecertificate"),
        *("edge_sites_desireddocument", "edge_sites_sitedesired", "edge_sites_blob"),
        *("standards_standard", "standards_ring", "standards_ringstandard"),
        *("rollouts_webhookendpoint", "rollouts_webhookdelivery"),
        *(
            "rollouts_rollout",
            "rollouts_wave",
            "rollouts_sitestep",
            "rollouts_approval",
            "rollouts_hold",
            "slas_window",
        ),
    )
    return [rows(f"SELECT t::text FROM {table} t ORDER BY 1", using=OWNER) for table in tables]


def assert_nothing_foreign(response: Any) -> None:
    text = response.content + str(response.headers).encode()
    assert [word for word in FOREIGN_WORDS if word in text] == []


def site_values(provider: Provider, **values: Any) -> dict[str, Any]:
    """What the form of a site sends."""
    fixed = {"name": "Renamed", "slug": "renamed", "lat": 1, "lon": 2, "time_zone": "UTC", "ring": "stable"}
    fixed |= {"address": "203.0.113.1:9100", "poll_interval_s": 30, "region": "DACH", "labels": "tier=1"}
    return fixed | {"provider": provider.pk, "place": "", "country": "", "contacts": "", "notes": ""} | values


def body_for(route: Route, provider: Provider) -> dict[str, Any]:
    """A form that would do."""
    bodies = {
        "sites/<slug:slug>/edit/": lambda: site_values(provider),
        "sites/<slug:slug>/life/": lambda: {"life": "retired"},
        "sites/<slug:slug>/acknowledge/": lambda: {"note": "mine"},
        "providers/<slug:slug>/edit/": lambda: {"name": "Renamed", "slug": "renamed", "contact": "x"},
        "sites/new/": lambda: site_values(provider, slug="brand-new"),
        "providers/new/": lambda: {"name": "Brand new", "slug": "brand-new"},
        "views/keep/": lambda: {"name": "a", "query": "state=down"},
        "sites/<slug:slug>/identity/accept/": lambda: {"fingerprint": FINGERPRINT, "compared": "on"},
        "sites/<slug:slug>/identity/revoke/": lambda: {"reason": "because", "confirm": "own-site"},
        **{
            f"sites/<slug:slug>/identity/{step}/": lambda: {"reason": "because"}
            for step in ("reject", "freeze", "thaw")
        },
        "sites/<slug:slug>/hold/": lambda: {"reason": "because", "hours": "2"},
        "sites/<slug:slug>/lift/": lambda: {"hold": "1"},
        "sites/<slug:slug>/desired/apply/": lambda: {
            "do": "apply",
            "text": "{}",
            "reason": "because",
            "expect": SiteDesired.objects.using(OWNER).get(site__slug="own-site").version,
        },
        **{f"sites/<slug:slug>/desired/{step}/": lambda: {"reason": "because"} for step in ("freeze", "thaw")},
    }
    return bodies.get(route.path, dict)()


def call(client: Client, route: Route, method: str, slug: str = "", data: Any = None, *, fragment: bool = False) -> Any:
    send = client.get if method == "GET" else client.post
    return send(route.at(slug), data or {}, headers={"HX-Request": "true"} if fragment else {})


# The lists are whole ----------------------------------------------------------------------------------------
def test_every_address_is_in_the_sweep():
    listed = [route.path for route in (*PAGES, *ACCOUNTS, *MACHINES, *API_ROOT)]
    paths = {operation.path.removeprefix("/").translate({123: "<", 125: ">"}) for operation in operations()}
    assert set(known_patterns()) == {*listed, *paths}


def test_an_address_outside_the_sweep_would_be_noticed(monkeypatch):
    from django.urls import clear_url_caches, path

    import fleet.urls

    monkeypatch.setattr(fleet.urls, "urlpatterns", [*fleet.urls.urlpatterns, path("extra/", lambda request: None)])
    clear_url_caches()
    try:
        with pytest.raises(AssertionError):
            test_every_address_is_in_the_sweep()
    finally:
        monkeypatch.undo()
        clear_url_caches()


# Foreign objects --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("route", "method"), calls(SITE, PROVIDER))
def test_what_is_foreign_is_404_like_what_is_not(client_of, fleet, route, method):
    foreign, missing = ("quagga-site", "no-such-site") if route.about == SITE else ("quagga", "nobody")
    body = body_for(route, fleet) if method == "POST" else {}
    clients = {member: client_of(member) for member in MEMBERSHIPS}
    before = contents()
    for member, client in clients.items():
        for fragment in (False, True):
            response = call(client, route, method, foreign, body, fragment=fragment)
            assert response.status_code == 404, member
            assert_nothing_foreign(response)
            assert response.content == call(client, route, method, missing, body, fragment=fragment).content
    assert contents() == before


def is_allowed(member: str, route: Route, method: str) -> bool:
    """Whether a member may do this to what is its own."""
    if route.about == PROVIDER:
        return not route.path.endswith("/edit/")  # that takes an administrator of the whole fleet
    may_change = "operator" in member or "admin" in member
    if route.path.endswith(("/hold/", "/lift/")):
        return may_change or "manager" in member
    if route.path.endswith("/desired/apply/"):
        return "admin" in member
    if route.path.endswith(("/edit/", "/life/", "/desired/freeze/", "/desired/thaw/")) or (
        "/identity/" in route.path and method == "POST"
    ):
        return may_change and not member.startswith("provider_")
    return may_change or method == "GET" or (route.path.endswith("/acknowledge/") and "manager" in member)


@pytest.mark.parametrize(("route", "method"), calls(SITE, PROVIDER))
def test_what_is_own_answers(client_of, fleet, signer, route, method):
    for member in MEMBERSHIPS:
        site = Site.objects.using(OWNER).get(name__in=["Own Site", "Renamed"])
        Site.objects.using(OWNER).filter(pk=site.pk).update(slug="own-site", name="Own Site", life="active")
        rows(
            "INSERT INTO edge_sites_pollschedule (site_id, provider_id, shard, interval_s, backoff, next_poll_at)"
            " VALUES (%s, %s, 0, 30, 1, now()) ON CONFLICT DO NOTHING",
            [site.pk, fleet.pk],
            using=OWNER,
        )
        if "/identity/" in route.path and method == "POST":
            ready_for(route.path.split("/")[-2], site)
        rows("UPDATE rollouts_hold SET lifted_at = NULL WHERE id = 1", using=OWNER)
        if "/desired/" in route.path:
            told_for(route.path.split("/")[-2], site)
        body = body_for(route, fleet) if method == "POST" else {}
        response = call(client_of(member), route, method, "own-site" if route.about == SITE else "own", body)
        done = 302 if method == "POST" and not route.path.endswith("/join/") else 200
        assert response.status_code == (done if is_allowed(member, route, method) else 403), member
        assert_nothing_foreign(response)


@pytest.mark.parametrize(("route", "method"), calls(WEBHOOK))
def test_webhooks_are_for_nobody_who_sees_less_than_the_fleet(client_of, route, method):
    for member in MEMBERSHIPS:
        client = client_of(member)
        before = contents()
        for fragment in (False, True):
            response = call(client, route, method, "1", fragment=fragment)
            assert response.status_code == 404, member
            assert b"own-hook" not in response.content
            assert response.content == call(client, route, method, "999", fragment=fragment).content
        assert contents() == before


@pytest.mark.parametrize(("route", "method"), calls(WINDOW))
def test_maintenance_elsewhere_is_404_like_what_is_not(client_of, make_person, route, method):
    _ask_for_window(make_person, "quagga-site")
    for member in MEMBERSHIPS:
        client = client_of(member)
        send = client.get if method == "GET" else client.post
        before = contents()
        found = [send(route.at().replace("/1/", f"/{number}/"), {"reason": "because"}) for number in (1, 999)]
        assert [one.status_code for one in found] == [404, 404], member
        assert found[0].content == found[1].content
        assert contents() == before


def _ask_for_window(make_person: Any, slug: str) -> None:
    actor, rights = access_of(make_person("operator", username="owner-q"))
    begins = datetime.now(UTC) + timedelta(days=5)
    times = {"begins": begins, "ends": begins + timedelta(hours=1)}
    request_window(actor=actor, rights=rights, sites=[slug], title="Quagga cable", **times)


def _dispute_every_outage(make_person: Any) -> None:
    derive_due()
    with scope(TEST):
        found = list(Incident.objects.select_related("site__provider").order_by("pk"))
    for number, incident in enumerate(found):
        person = make_person("provider_operator", username=f"disputes-{number}", provider=incident.site.provider)
        actor, rights = access_of(person)
        claim = file_dispute(actor=actor, rights=rights, incident=incident, cause="third_party", text="Quagga digger")
        attach_file(actor=actor, rights=rights, dispute=claim, name="a.txt", body=b"a digger")


@pytest.mark.parametrize(("route", "method"), calls(CONTRACT))
def test_a_contract_shows_the_own_part_and_another_is_404_like_what_is_not(client_of, route, method):
    make_contract(segment("own"), segment("quagga", gap_reason=""), slug="both")
    make_contract(segment("quagga"), slug="quagga-only")
    for member in MEMBERSHIPS:
        client = client_of(member)
        sees = "region" not in member and "label" not in member
        response = call(client, route, method, "both", {"do": "check"})
        told = 403 if route.path.endswith("/edit/") else 200
        assert response.status_code == (told if sees else 404), member
        assert_nothing_foreign(response)
        found = [call(client, route, method, slug, {"do": "check"}) for slug in ("quagga-only", "nobody")]
        assert [one.status_code for one in found] == [404, 404], member
        assert found[0].content == found[1].content


@pytest.mark.parametrize(("route", "method"), calls(REPORT))
def test_a_report_shows_the_own_part_and_another_is_404_like_what_is_not(client_of, route, method):
    since = {"begins": "2026-01-01T00:00"}
    _make_report(make_contract(segment("own", **since), segment("quagga", **since), slug="both"))
    _make_report(make_contract(segment("quagga", **since), slug="quagga-only"))
    before = value("SELECT count(*) FROM slas_decision", using=OWNER)
    for member in MEMBERSHIPS:
        client = client_of(member)
        send = client.get if method == "GET" else client.post
        response = send(route.at("own-site"))
        told = 200 if method == "GET" else 403
        assert response.status_code == (404 if "region" in member or "label" in member else told), member
        assert_nothing_foreign(response)
        places = [(2, "own-site"), (999, "own-site")]
        found = [send(route.at(slug).replace("/1/", f"/{number}/")) for number, slug in places]
        assert [one.status_code for one in found] == [404, 404], member
        assert found[0].content == found[1].content
        assert client.get("/slas/reports/1/sites/quagga-site/").status_code == 404
    assert value("SELECT count(*) FROM slas_decision", using=OWNER) == before


@pytest.mark.parametrize(("route", "method"), calls(REPORT_FILE))
def test_a_signed_file_of_the_own_part_is_given_out_and_another_is_404_like_what_is_not(
    client_of, tmp_path, route, method
):
    since = {"begins": "2026-01-01T00:00"}
    _make_report(make_contract(segment("own", **since), segment("quagga", **since), slug="both"))
    _make_report(make_contract(segment("quagga", **since), slug="quagga-only"))
    with signer_of_files(tmp_path):
        make_files()
    for member in MEMBERSHIPS:
        client = client_of(member)
        response = client.get(route.at("own"))
        assert response.status_code == (404 if "region" in member or "label" in member else 200), member
        assert_nothing_foreign(response)
        places = [(1, "quagga"), (2, "quagga"), (999, "own"), (1, "nobody")]
        found = [client.get(route.at(slug).replace("/reports/1/", f"/reports/{number}/")) for number, slug in places]
        assert [one.status_code for one in found] == [404] * 4, member


@pytest.mark.parametrize(("route", "method"), calls(SCHEDULE))
def test_a_schedule_shows_the_own_addresses_and_another_is_404_like_what_is_not(client_of, route, method):
    make_contract(segment("own"), segment("quagga"), slug="both")
    _mail_reports("own", "quagga")
    _mail_reports("quagga")
    before = value("SELECT json_agg(t)::text FROM slas_mailschedule t", using=OWNER)
    for member in MEMBERSHIPS:
        client = client_of(member)
        response = call(client, route, method)
        sees = "provider" in member
        told = 200 if method == "GET" and not route.path.endswith("/edit/") else 403
        assert response.status_code == (told if sees else 403), member
        assert_nothing_foreign(response)
        found = [client.get(route.at().replace("/1/", f"/{number}/")) for number in (2, 999)]
        assert found[0].content == found[1].content
    assert value("SELECT json_agg(t)::text FROM slas_mailschedule t", using=OWNER) == before


def _mail_reports(*providers: str, contract: str = "both") -> None:
    recipients = [{"provider": one, "address": f"desk@{one}.example"} for one in providers]
    values = {"contract": contract, "each": "month", "lives": ["final"], "recipients": recipients}
    save_schedule(actor=TEST, rights=everything(), values=values)


def _make_report(version: Any) -> None:
    with scope(TEST):
        contract = version.contract
    ask_for_report(actor=TEST, rights=everything(), contract=contract, period="2026")
    make_wanted()


# Rollouts ---------------------------------------------------------------------------------------------------
ROLLOUT_CALLS = [(route, method) for route in PAGES if route.about == ROLLOUT for method in route.methods]


@pytest.mark.parametrize("member", MEMBERSHIPS)
def test_a_rollout_shows_the_own_part_and_takes_no_word(client_of, member):
    body = {"expect": "sha256:", "shown": "1", "reason": "because", "hold": "2"}
    client = client_of(member)
    before = contents()
    for route, method in ROLLOUT_CALLS:
        response = call(client, route, method, "own-site", body, fragment=method == "GET" and "/do/" not in route.path)
        is_told = "/do/" in route.path or route.path.endswith("/edit/")
        expected = 403 if is_told else 404 if route.path.endswith("/lift/") else 200
        assert response.status_code == expected, route
        assert_nothing_foreign(response)
    assert_nothing_foreign(client.get("/rollouts/1/"))
    assert contents() == before


@pytest.mark.parametrize("member", MEMBERSHIPS)
def test_a_rollout_elsewhere_is_404_like_what_is_not(client_of, member):
    client = client_of(member)
    before = contents()
    for route, method in ROLLOUT_CALLS:
        found = []
        for number in (2, 999):
            send = client.get if method == "GET" else client.post
            found.append(send(route.at("own-site").replace("/1/", f"/{number}/")))
            assert found[-1].status_code == 404, route
            assert_nothing_foreign(found[-1])
        assert found[0].content == found[1].content
    assert client.get("/rollouts/1/sites/quagga-site/").status_code == 404
    for what in ("lift", "override"):
        found = [client.post(f"/rollouts/holds/{number}/{what}/", {"reason": "because"}) for number in (2, 999)]
        assert [one.status_code for one in found] == [404, 404], what
        assert found[0].content == found[1].content
    assert contents() == before


# Lists, counts, searches ------------------------------------------------------------------------------------
QUERIES: list[dict[str, str]] = [
    {},
    {"q": "quag"},
    {"q": "qvil"},
    {"site": "qua"},
    {"state": "down"},
    {"life": "all", "per_page": "200", "cols": "name,place,country,provider,region,ring,address"},
    {"sort": "-name", "page": "1"},
    {"range": "30d"},
    {"identity": "frozen"},
    {"identity": "waiting", "life": "all"},
    {"state": "all", "sort": "-since", "kind": "kernel", "name": "linux"},
    {"state": "person", "standard": "own-r0"},
]


@pytest.mark.parametrize(("route", "method"), [row for row in calls(PLAIN) if row.values[1] == "GET"])
def test_lists_counts_and_searches_hold_not_one_foreign_byte(client_of, route, method):
    for number, member in enumerate(MEMBERSHIPS):
        client = client_of(member)
        for query in QUERIES[number % 3 :: 3]:  # each by three kinds of viewers
            response = call(client, route, method, data=query, fragment=bool(number % 2))
            assert response.status_code in {200, 403}, (member, query)
            assert_nothing_foreign(response)


@pytest.mark.parametrize("member", ["provider_operator", "admin of a region"])
def test_ids_and_slugs_of_foreign_objects_in_queries_find_nothing(client_of, member):
    client = client_of(member)
    provider = str(Provider.objects.using(OWNER).get(slug="quagga").pk)
    for path, query in (
        ("/", {"site": "quagga-site"}),
        ("/", {"provider": provider}),
        ("/overview/attention/", {"provider": provider}),
        ("/overview/figures/", {"provider": provider}),
        ("/sites/", {"provider": provider, "region": "Islands-Q", "ring": "ring-q"}),
        ("/compliance/", {"provider": "quagga", "ring": "ring-q", "region": "Islands-Q", "state": "all"}),
        ("/compliance/export.csv", {"region": "Islands-Q", "state": "all"}),
        ("/compliance/history.json", {"region": "Islands-Q"}),
        ("/sites/export.csv", {"provider": provider}),
        ("/sites/export.csv", {"region": "Islands-Q", "life": "all"}),
    ):
        response = client.get(path, query)
        assert response.status_code == 200
        # The address itself may come back in links; nothing else of the site does.
        words = [word for word in FOREIGN_WORDS if word not in str(query).encode()]
        assert [word for word in words if word in response.content] == []


def test_the_map_holds_the_own_sites_only(client_of, fleet):
    for member in MEMBERSHIPS:
        body = client_of(member).get("/map.json").json()
        assert [row[1] for row in body["sites"]] == ["own-site"], member
        assert body["providers"] == {str(fleet.pk): "Own Hosting"}, member


def test_the_map_of_one_viewer_is_not_fresh_for_another(client_of):
    clients = {member: client_of(member) for member in MEMBERSHIPS}
    etags = {member: client.get("/map.json")["ETag"] for member, client in clients.items()}
    assert len(set(etags.values())) == len(MEMBERSHIPS)
    for member, client in clients.items():
        for other, etag in etags.items():
            status = client.get("/map.json", headers={"If-None-Match": etag}).status_code
            assert status == (304 if other == member else 200), (member, other)


def test_the_map_is_not_sent_again_while_nothing_changes(client_of):
    client = client_of("provider_viewer")
    etag = client.get("/map.json")["ETag"]
    assert client.get("/map.json", headers={"If-None-Match": etag}).status_code == 304
    record_reports([polled(Site.objects.using(OWNER).get(slug="quagga-site"), "up")], poller="test")
    assert client.get("/map.json", headers={"If-None-Match": etag}).status_code == 304
    for _ in range(3):
        record_reports([polled(Site.objects.using(OWNER).get(slug="own-site"), "up")], poller="test")
    assert client.get("/map.json", headers={"If-None-Match": etag}).status_code == 200


# Changes that name foreign objects --------------------------------------------------------------------------
@pytest.mark.parametrize("member", ["provider_operator", "admin of a provider", "admin of a region"])
def test_picking_foreign_sites_does_nothing_to_them(client_of, member):
    client = client_of(member)
    pk = Site.objects.using(OWNER).get(slug="quagga-site").pk
    before = contents()
    for action in ("poll", "export", ""):
        response = client.post("/sites/bulk/", {"pick": [pk, "0", "x", "-1", "9" * 30, "\u0663"], "action": action})
        assert response.status_code in {200, 302}
        assert_nothing_foreign(response)
    assert contents() == before


@pytest.mark.parametrize("member", ["operator of a provider", "admin of a provider"])
def test_a_site_is_not_made_with_or_moved_to_a_foreign_provider(client_of, member):
    client = client_of(member)
    foreign = Provider.objects.using(OWNER).get(slug="quagga")
    before = contents()
    for path in ("/sites/new/", "/sites/own-site/edit/"):
        response = client.post(path, site_values(foreign, slug="smuggled"))
        assert response.status_code == 422
        assert_nothing_foreign(response)
    assert contents() == before


@pytest.mark.parametrize("member", ["operator of a provider", "admin of a region"])
@pytest.mark.parametrize(("slug", "provider"), [("smuggled", "quagga"), ("quagga-site", "own")])
def test_an_import_cannot_name_foreign_objects(client_of, member, slug, provider):
    client = client_of(member)
    line = f"{slug},Smuggled,{provider},203.0.113.1:9100,1,2,DACH\n"
    upload = SimpleUploadedFile("sites.csv", f"slug,name,provider,address,lat,lon,region\n{line}".encode())
    before = contents()
    preview = client.post("/sites/import/", {"file": upload})
    if provider == "quagga":
        assert preview.status_code == 422
        assert b"there is no such provider" in preview.content
    else:
        # That the slug is taken shows only when it is tried, as for any slug; not by whom.
        packed = preview.context["packed"]
        response = client.post("/sites/import/", {"packed": packed}, follow=True)
        assert b"This slug is taken." in response.content
        assert b"Quagga" not in response.content
    assert contents() == before


# Without a session ------------------------------------------------------------------------------------------
PUBLIC = {"accounts/login/", "accounts/signup/", "accounts/inactive/", "accounts/logout/"}


# What is refused changes nothing, so one fleet serves all pages; it is looked at after each of them.
@pytest.mark.parametrize("cookie", ["", "forged"])
def test_without_a_session_every_page_leads_to_the_sign_in(fleet, cookie):
    client = Client()
    before = contents()
    for route in PAGES:
        if cookie:
            client.cookies["__Host-session"] = cookie
        slug = OWN.get(route.about, "")
        for method in route.methods:
            response = call(client, route, method, slug)
            assert response.status_code == 302, route
            assert response["Location"].startswith("/accounts/login/?next=/"), route
            assert response.content == b"", route
            response = call(client, route, method, slug, fragment=True)
            assert (response.status_code, response.content) == (286, b""), route
            assert response["HX-Redirect"].startswith("/accounts/login/"), route
        assert contents() == before, route


@pytest.mark.parametrize("route", ACCOUNTS, ids=str)
def test_account_pages_without_a_session(database, route):
    response = Client().get(route.at())
    if route.path == "accounts/logout/":
        assert response.status_code == 302
    else:
        assert response.status_code == (200 if route.path in PUBLIC else 302)
    if response.status_code == 302:
        assert response["Location"].startswith("/accounts/login/")


@pytest.mark.parametrize("route", ACCOUNTS, ids=str)
def test_account_pages_with_a_session(signed_in, route):
    assert signed_in("viewer").get(route.at()).status_code in {200, 302}


def test_nobody_signs_up(database):
    from fleet.people.models import User

    response = Client().post("/accounts/signup/", {"username": "eve", "password1": "correct-horse-battery"})
    assert b"Accounts are given, not taken" in response.content
    assert not User.objects.exists()


@pytest.mark.parametrize(
    "path", ["/accounts/email/", "/accounts/password/reset/", "/accounts/password/set/", "/accounts/confirm-email/"]
)
def test_account_pages_that_would_send_mail_do_not_exist(database, path):
    assert Client().get(path).status_code == 404


# CSRF -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("headers", [{}, {"X-CSRFToken": "x" * 32}, {"Origin": "https://evil.example"}], ids=str)
def test_every_form_needs_its_token(fleet, make_person, headers):
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_person("admin"))
    client.get("/accounts/password/change/")
    before = contents()
    for route in (*PAGES, *ACCOUNTS):
        if "POST" not in route.methods:
            continue
        body = body_for(route, fleet)
        if "Origin" in headers:
            body["csrfmiddlewaretoken"] = client.cookies["__Host-csrf"].value
        response = client.post(route.at(OWN.get(route.about, "")), body, headers=headers)
        assert response.status_code == 403, route
        assert b"This page has been open for too long" in response.content, route
        assert contents() == before, route
        assert client.get("/accounts/password/change/").status_code == 200, f"{route}: still signed in"


def test_a_form_with_its_token_is_taken(fleet, make_person):
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_person("admin"))
    client.get("/accounts/password/change/")
    token = client.cookies["__Host-csrf"].value
    response = client.post("/sites/own-site/life/", {"life": "retired", "csrfmiddlewaretoken": token})
    assert response.status_code == 302
    assert Site.objects.using(OWNER).get(slug="own-site").life == "retired"


# Methods ----------------------------------------------------------------------------------------------------
def test_other_methods_are_refused(fleet, signed_in, make_person, tmp_path):
    client = signed_in("admin")
    _make_report(make_contract(segment("own", begins="2026-01-01T00:00"), slug=OWN[CONTRACT]))
    with signer_of_files(tmp_path):
        make_files()
    _mail_reports("own", contract=OWN[CONTRACT])
    _ask_for_window(make_person, "own-site")
    _dispute_every_outage(make_person)
    before = contents()
    for route in PAGES:
        address = route.at(OWN.get(route.about, ""))
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"} - set(route.methods):
            assert client.generic(method, address).status_code == 405, (route, method)
        if "GET" in route.methods:
            head = client.head(address)
            # What cannot be done to a rollout now leads back to it.
            status = 302 if route.about == ROLLOUT and head.status_code == 302 else 200
            assert (head.status_code, head.content) == (status, b""), route
        assert contents() == before, route
