"""Screens of standards, rings and compliance, without a browser."""

from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from agent.protocol import Component
from fleet.kit.tenancy import scope
from fleet.standards.models import Ring, RingStandard, Standard
from fleet.standards.services.judging import judge_due
from sites.services.desired import apply
from tests.conftest import everything
from tests.fleet.standards.factories import (
    CONTENT,
    IMAGE,
    OTHER_IMAGE,
    SHA256,
    TEST,
    make_ring,
    make_standard,
    report,
    silent,
)
from tests.sites.builders import POS

pytestmark = pytest.mark.usefixtures("plain_static", "database")
OLD_KERNEL = Component("kernel", "linux", "6.1.0-20-amd64")
ABOUT = {"name": "2026.12-r1", "severity": "security", "deadline_h": "48", "extras": "allow", "notes": "new tills"}
NONE = {"w-TOTAL_FORMS": "0", "w-INITIAL_FORMS": "0"}


def draft(name: str = "r1", **values: Any) -> Standard:
    return make_standard(name, state="draft", published_at=None, published_by="", **values)


def rows_of(model: Any) -> list[Any]:
    with scope(TEST):
        return list(model.objects.order_by("id"))


# The editor -------------------------------------------------------------------------------------------------
def test_a_standard_from_the_form(signed_in):
    client = signed_in("admin")
    assert client.get("/standards/new/").status_code == 200
    workload = {"w-0-name": "pos", "w-0-image": IMAGE, "w-0-version": "4.2.1", "w-0-settle_s": "3"}
    body = {**ABOUT, "do": "save", "w-TOTAL_FORMS": "1", "w-INITIAL_FORMS": "0", **workload}
    body |= {"kernel": "6.1.0-21-amd64", "reboot": "never"}
    response = client.post("/standards/new/", body)
    assert (response.status_code, response["Location"]) == (302, "/standards/2026.12-r1/")
    (row,) = rows_of(Standard)
    assert (row.sha256, row.state, row.deadline_h, row.severity) == (SHA256, "draft", 48, "security")
    assert b"4.2.1" in client.get("/standards/2026.12-r1/").content


@pytest.mark.parametrize("mode", ["yaml", "json"])
def test_a_standard_from_text_and_between_the_editors(signed_in, mode):
    client = signed_in("admin")
    text = f"workloads: [{{name: pos, image: '{IMAGE}', version: 4.2.1}}]\nos: {{kernel: 6.1.0-21-amd64}}"
    shown = client.post("/standards/new/", {**ABOUT, "do": mode, "mode": "yaml", "text": text})
    assert shown.status_code == 200
    assert shown.context["about"]["notes"].value() == "new tills"
    typed = shown.context["page"].text
    back = client.post("/standards/new/", {**ABOUT, "do": "form", "mode": mode, "text": typed})
    assert back.context["page"].workloads.forms[0].initial["image"] == IMAGE
    saved = client.post("/standards/new/", {**ABOUT, "do": "save", "mode": mode, "text": typed})
    assert saved.status_code == 302
    assert rows_of(Standard)[0].sha256 == SHA256


def test_what_is_wrong_stands_where_it_was_typed(signed_in):
    client = signed_in("admin")
    body = {**ABOUT, "do": "save", "mode": "yaml", "text": "workloads: [{name: pos, image: 'nginx:1'}]"}
    response = client.post("/standards/new/", body)
    assert response.status_code == 422
    assert b"workloads[0].image" in response.content
    workload = {"w-0-name": "pos", "w-0-image": "nginx:1", "w-TOTAL_FORMS": "1", "w-INITIAL_FORMS": "0"}
    response = client.post("/standards/new/", {**ABOUT, "do": "save", **workload, "reboot": "never"})
    assert (response.status_code, "image" in response.context["page"].workloads.forms[0].errors) == (422, True)
    response = client.post(
        "/standards/new/", {**ABOUT, "name": "A b", "do": "save", "mode": "yaml", "text": "os: {kernel: '6'}"}
    )
    assert (response.status_code, list(response.context["about"].errors)) == (422, ["name"])
    response = client.post("/standards/new/", {**ABOUT, "do": "add", **NONE})
    assert (response.status_code, len(response.context["page"].workloads.forms)) == (200, 1)
    assert rows_of(Standard) == []


def test_images_by_architecture_are_edited_as_text(signed_in):
    images = {"workloads": [{"name": "pos", "images": {"amd64": IMAGE, "arm64": OTHER_IMAGE}}]}
    draft("r1", content=images)
    response = signed_in("admin").get("/standards/r1/edit/")
    assert (response.context["page"].mode, response.context["page"].only_text) == ("yaml", True)
    assert OTHER_IMAGE in response.context["page"].text


def test_a_standard_begins_from_another_or_from_what_a_site_runs(signed_in, make_site):
    make_standard("r0")
    site = make_site("berlin")
    content = {"workloads": [{"name": "pos", "image": OTHER_IMAGE}]}
    apply(actor=TEST, rights=everything(), site=site, content=content, reason="by hand")
    report(site, OLD_KERNEL, POS, Component("workload", "stray", "1", None))
    client = signed_in("admin")
    page = client.get("/standards/new/?from=r0").context["page"]
    assert (page.begun, page.workloads.forms[0].initial["image"]) == ("r0", IMAGE)
    page = client.get("/standards/new/?site=berlin&as=yaml").context["page"]
    assert "6.1.0-20-amd64" in page.text
    assert page.left_out == ["stray runs there and is not managed by Archipelago; it is left out."]
    assert client.get("/standards/new/?site=nowhere").status_code == 404


def test_a_draft_is_changed_and_an_overtaken_one_is_not(signed_in):
    draft()
    client = signed_in("admin")
    page = client.get("/standards/r1/edit/?as=yaml")
    given = {**ABOUT, "name": "r1", "do": "save", "mode": "yaml", "text": "os: {kernel: '6.9'}"}
    given |= {"expect": page.context["about"]["expect"].value()}
    assert client.post("/standards/r1/edit/", given).status_code == 302
    response = client.post("/standards/r1/edit/", given)
    assert response.status_code == 422
    assert b"Somebody else changed it meanwhile" in response.content
    make_standard("r2")
    assert client.get("/standards/r2/edit/").status_code == 409


# Publishing, giving -----------------------------------------------------------------------------------------
def test_from_the_draft_to_the_ring_with_what_it_will_do_in_numbers(signed_in, make_site):
    draft()
    make_ring(None)
    site = make_site()
    report(site, OLD_KERNEL, POS)
    judge_due()
    client = signed_in("admin")
    assert client.post("/standards/r1/publish/", {"expect": "sha256:x"}, follow=True).status_code == 200
    assert rows_of(Standard)[0].state == "draft"
    client.post("/standards/r1/publish/", {"expect": SHA256})
    assert rows_of(Standard)[0].state == "published"
    preview = client.get("/standards/r1/give/?ring=stable")
    text = " ".join(preview.content.decode().split())
    assert "<strong>1 of 1 site will be in drift</strong>, 1 of them newly." in text
    assert client.post("/standards/r1/give/", {"ring": "stable", "reason": "x", "expect": ""}).status_code == 422
    given = {"ring": "stable", "reason": "the first", "expect": ""}
    assert client.post("/standards/r1/give/", given).status_code == 302
    assert [row.reason for row in rows_of(RingStandard)][-1] == "the first"
    response = client.post("/standards/r1/give/", given)
    assert response.status_code == 422
    assert b"has got another standard since you looked" in response.content
    judge_due()
    assert b"1 in drift" in client.get("/standards/r1/").content
    assert client.post("/standards/r1/withdraw/", {"reason": "because"}, follow=True).status_code == 200
    assert rows_of(Standard)[0].state == "published"
    client.post("/rings/stable/release/", {"reason": "for now"})
    client.post("/standards/r1/withdraw/", {"reason": "because"})
    assert rows_of(Standard)[0].state == "withdrawn"


def test_two_standards_side_by_side(signed_in):
    make_standard("r1")
    make_standard("r2", {**CONTENT, "os": {"kernel": "6.9"}})
    client = signed_in("viewer")
    page = client.get("/standards/diff/?before=r1&after=r2")
    assert [one.words for one in page.context["changes"]] == ["kernel: 6.1.0-21-amd64 → 6.9"]
    assert b"exactly the same" in client.get("/standards/diff/?before=r1&after=r1").content
    assert client.get("/standards/diff/?before=r1&after=none").status_code == 404


# Rings ------------------------------------------------------------------------------------------------------
def test_rings_are_made_counted_moved_and_removed(signed_in, make_site):
    make_site(labels={"tier": "1"})
    make_site()
    client = signed_in("admin")
    assert client.post("/rings/new/", {"name": "All", "slug": "all"}).status_code == 302
    held = client.get("/rings/count/", {"name": "", "labels": "tier=1"})
    assert "It holds <strong>1</strong> active site; rings before it take 1 of them" in held.content.decode()
    assert b"cannot be read yet" in client.get("/rings/count/", {"labels": "tier"}).content
    assert client.post("/rings/new/", {"name": "One", "slug": "one", "labels": "tier=1"}).status_code == 302
    client.post("/rings/order/", {"ring": "one", "move": "up"})
    assert [(row.slug, row.position) for row in rows_of(Ring)] == [("all", 2), ("one", 1)]
    held = client.get("/rings/count/", {"labels": "tier=1", "ring": "one"})
    assert "It holds <strong>1</strong> active site." in held.content.decode()
    response = client.post("/rings/new/", {"name": "X", "slug": "new"})
    assert (response.status_code, list(response.context["form"].errors)) == (422, ["slug"])
    assert client.post("/rings/one/", {"name": "One", "slug": "one", "labels": "tier=2"}).status_code == 302
    assert rows_of(Ring)[1].labels == {"tier": "2"}
    client.post("/rings/one/delete/")
    assert [row.slug for row in rows_of(Ring)] == ["all"]


# Compliance -------------------------------------------------------------------------------------------------
@pytest.fixture
def fleet(make_site: Any, make_provider: Any) -> Any:
    """Two in drift, one that conforms, one out of reach, one that follows nothing."""
    own = make_provider("own")
    make_ring(make_standard("r1"), labels={"tier": "1"})
    tier = {"labels": {"tier": "1"}, "provider": own}
    good, old, older, gone = (make_site(slug, **tier) for slug in ("good", "old", "older", "gone"))
    make_site("free")
    report(good)
    report(older, OLD_KERNEL, POS)
    judge_due()
    report(old, OLD_KERNEL, Component("workload", "pos", "4.2.0", POS.digest))
    report(gone)
    silent(gone)
    judge_due()
    return own


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", ["older", "old"]),
        ("?state=unknown", ["gone"]),
        ("?state=conform", ["good"]),
        ("?state=none", ["free"]),
        ("?state=nonsense&sort=nonsense&per_page=9999&page=77", ["older", "old"]),
        ("?sort=-site&state=all", ["older", "old", "good", "gone", "free"]),
        ("?kind=workload&name=pos", ["old"]),
        ("?kind=workload&name=pos&version=4.2.0", ["old"]),
        ("?kind=workload&name=pos&version=4.2.9", []),
        ("?ring=stable", ["older", "old"]),
        ("?ring=none", []),
        ("?provider=own&standard=r1&region=DACH", ["older", "old"]),
    ],
)
def test_the_sites_that_pass_the_filters_oldest_first(signed_in, query, shown):
    client = signed_in("viewer")
    for fragment in (False, True):
        response = client.get(f"/compliance/{query}", headers={"HX-Request": "true"} if fragment else {})
        assert response.status_code == 200
        assert [line["record"].slug for line in response.context["table"].lines()] == shown
    listed = client.get(f"/compliance/export.csv{query}").content.decode("utf-8-sig").split("\r\n")[1:-1]
    if "nonsense" not in query:
        assert sorted(line.partition(",")[0] for line in listed) == sorted(shown)


@pytest.mark.usefixtures("fleet")
def test_figures_components_and_spread_are_on_the_page(signed_in):
    response = signed_in("viewer").get("/compliance/")
    assert [(row["label"], row["count"]) for row in response.context["figures"]] == [
        *(("Conform", 1), ("Drift", 2), ("Unknown", 1), ("No standard", 1)),
    ]
    assert response.context["share"] == 0.25
    assert [(row["what"], row["sites"]) for row in response.context["drifting"]] == [
        *(("kernel 6.1.0-20-amd64", 2), ("workload pos 4.2.0", 1)),
    ]
    followed = signed_in("viewer").get(response.context["drifting"][0]["href"])
    assert [line["record"].slug for line in followed.context["table"].lines()] == ["older", "old"]
    spread = {
        row["what"]: [(one["version"], one["sites"]) for one in row["versions"]] for row in response.context["spread"]
    }
    assert spread["kernel"] == [("6.1.0-20-amd64", 2), ("6.1.0-21-amd64", 2)]


@pytest.mark.usefixtures("fleet")
def test_the_chart_has_its_series(signed_in):
    body = signed_in("viewer").get("/compliance/history.json?span=24h&provider=own").json()
    assert (body["step_s"], len(body["t"]), len(body["ratio"]), len(body["drift"])) == (600, 146, 146, 146)
    assert signed_in("viewer").get("/compliance/history.json?span=x").json()["step_s"] == 3600


@pytest.mark.usefixtures("fleet")
def test_a_sites_card_says_what_differs_since_when_and_why(signed_in):
    client = signed_in("viewer")
    text = " ".join(client.get("/sites/old/compliance/").content.decode().split())
    for words in ("It differs from", "in 2 things", "6.1.0-20-amd64", "6.1.0-21-amd64", "Last proof"):
        assert words in text
    assert "exactly." in client.get("/sites/good/compliance/").content.decode()
    assert "was last proven" in client.get("/sites/gone/compliance/").content.decode()
    assert "No ring holds it" in client.get("/sites/free/compliance/").content.decode()
    assert "/sites/old/compliance/" in client.get("/sites/old/").content.decode()


def test_a_provider_sees_its_own_alone(signed_in, fleet, make_provider, make_site):
    report(make_site("theirs", make_provider("quagga", name="Quagga"), labels={"tier": "1"}), OLD_KERNEL, POS)
    judge_due()
    client = signed_in("provider_viewer", provider=fleet)
    for path in (
        "/compliance/?state=all",
        "/compliance/export.csv?state=all",
        "/standards/",
        "/standards/r1/",
        "/rings/",
    ):
        response = client.get(path)
        assert response.status_code == 200, path
        assert b"uagga" not in response.content, path
        assert b"theirs" not in response.content, path
    assert client.get("/compliance/").context["counts"]["sites"] == 4
    assert b"tier=1" not in client.get("/rings/").content


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize("role", ["viewer", "operator", "manager", "provider_viewer", "region"])
def test_pages_that_change_something_are_refused(signed_in, fleet, role):
    membership = {"provider": fleet} if role.startswith("provider") else {}
    client = signed_in("admin", regions=["DACH"]) if role == "region" else signed_in(role, **membership)
    draft("d1")
    for path in (
        "/standards/new/",
        "/rings/new/",
        "/rings/count/",
        "/rings/stable/",
        "/standards/r1/give/?ring=stable",
    ):
        assert client.get(path).status_code == 403, path
        assert client.post(path, {**ABOUT, "slug": "x", "reason": "because", "ring": "stable"}).status_code in {
            403,
            405,
        }
    for path in ("/rings/order/", "/rings/stable/delete/", "/rings/stable/release/", "/standards/r1/edit/"):
        assert client.post(path, {"reason": "because"}).status_code == 403, path
    for path in ("/standards/d1/delete/", "/standards/d1/publish/", "/standards/r1/withdraw/"):
        if role != "manager" or path.endswith("delete/"):
            response = client.post(path, {"expect": SHA256, "reason": "because"})
            assert response.status_code == (404 if role.startswith("provider") and "d1" in path else 403), path
    assert [row.state for row in rows_of(Standard)] == ["published", "draft"]
    assert len(rows_of(Ring)) == 1


@pytest.mark.parametrize(
    ("path", "queries"),
    [("/compliance/", 13), ("/standards/", 7), ("/rings/", 6), ("/sites/s1/compliance/", 4), ("/standards/r1/", 6)],
)
def test_the_number_of_queries_does_not_grow_with_the_rows(signed_in, make_site, path, queries):
    client = signed_in("viewer")
    found = []
    for number in (1, 2, 3):
        make_ring(make_standard(f"r{number}"), f"ring{number}", number, labels={"n": str(number)})
        report(make_site(f"s{number}", labels={"n": str(number)}), OLD_KERNEL, POS)
        judge_due()
        if number != 2:
            with CaptureQueriesContext(connections["default"]) as seen:
                assert client.get(path).status_code == 200
            found.append(len([row for row in seen if "standards_" in row["sql"] or "edge_sites_" in row["sql"]]))
    assert found == [queries, queries]
