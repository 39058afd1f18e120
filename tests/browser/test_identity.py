"""A site joins before a real browser: the join string, the waiting room that fills by itself, a decision."""

import secrets
from collections.abc import Iterator
from uuid import UUID

import pytest
from playwright.sync_api import Page, expect

from agent.identity import Identity, Keys
from agent.protocol.identity import read_join
from sites.models import Site, SiteTenure
from sites.services.sites import create_site
from tests.browser.conftest import LOOKS, SignIn
from tests.browser.stage import Stage
from tests.browser.test_pages import serious
from tests.conftest import TEST, everything
from tests.sites.identities import certificate, forget_identity, freeze_row, keys

pytestmark = pytest.mark.browser


@pytest.fixture
def newcomer(stage: Stage) -> Iterator[Site]:
    """A planned site without an identity, of the provider north; nothing of it is left for other tests."""

    def make() -> Site:
        north = Site.objects.using("owner").get(slug="north-0")
        values = {"slug": f"new-{secrets.token_hex(3)}", "name": "Bergen Shop", "place": "Bergen", "lat": 60.4}
        values |= {"lon": 5.3, "time_zone": "Europe/Oslo", "address": "203.0.113.9:9100"}
        return create_site(
            actor=TEST, rights=everything(), values=values | {"provider_id": north.provider_id}, life="planned"
        )

    def remove(site: Site) -> None:
        forget_identity(site)
        SiteTenure.objects.using("owner").filter(site=site).delete()
        Site.objects.using("owner").filter(pk=site.pk).delete()

    site = stage.ask(make)
    yield site
    stage.ask(remove, site)


def make_join(page: Page, site: Site) -> str:
    page.goto(f"/sites/{site.slug}/")
    page.locator("#joining").get_by_role("button", name="Make join string").click()
    return page.get_by_label("Join string", exact=True).input_value()


def test_a_join_string_is_shown_and_copied(newcomer: Site, sign_in: SignIn) -> None:
    page = sign_in("noc")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    word = make_join(page, newcomer)
    assert read_join(word).site == newcomer.uuid
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == word
    assert serious(page) == []
    page.get_by_role("link", name="To the site").click()
    expect(page.get_by_text("A join string is out")).to_be_visible()
    assert word not in page.content()


def test_two_operators_see_the_same_waiting_room(stage: Stage, newcomer: Site, sign_in: SignIn) -> None:
    noc, admin = sign_in("noc"), sign_in("admin")
    stage.ask(lambda: keys(newcomer, host="<b>edge</b>"))
    for page in (noc, admin):
        page.goto("/sites/waiting/")
        expect(page.locator("#waiting")).to_contain_text("<b>edge</b>")
        expect(page.locator("#nav-waiting")).to_have_text("1")
        expect(page.locator("html")).to_have_attribute("data-link", "live")
    noc.get_by_role("button", name="Accept").click()  # without the tick the browser does not send it
    expect(noc.locator("#waiting")).to_contain_text("<b>edge</b>")
    noc.get_by_label("I compared the fingerprint").check()
    noc.get_by_role("button", name="Accept").click()
    for page in (noc, admin):
        expect(page.get_by_text("Nobody waits")).to_be_visible()
        expect(page.locator("#nav-waiting")).to_be_hidden()


@LOOKS
def test_identity_screens_are_whole(stage: Stage, newcomer: Site, sign_in: SignIn, theme: str, width: int) -> None:
    def stand() -> None:
        for _ in range(3):
            certificate(keys(newcomer, "replaced", reason="A newer enrolment"))
        certificate(keys(newcomer, "accepted", decided_by="nina"))
        keys(newcomer, host="x" * 255, remote="2001:db8:85a3::8a2e:370:7334")

    stage.ask(stand)
    page = sign_in("admin", theme=theme, width=width, height=844)
    for path in (f"/sites/{newcomer.slug}/", "/sites/waiting/", "/sites/?identity=waiting"):
        page.goto(path, wait_until="networkidle")
        page.evaluate("document.querySelectorAll('details.more, details.sub').forEach((part) => part.open = true)")
        assert serious(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    stage.ask(lambda: freeze_row(newcomer))
    page.goto(f"/sites/{newcomer.slug}/", wait_until="networkidle")
    assert serious(page) == []


def test_a_site_enrols_without_javascript(stage: Stage, newcomer: Site, sign_in: SignIn) -> None:
    signed_in = sign_in("noc")
    plain = signed_in.context.browser.new_context(base_url=stage.url, java_script_enabled=False)  # type: ignore[union-attr]
    plain.add_cookies(signed_in.context.cookies())  # type: ignore[arg-type]
    page = plain.new_page()
    join = read_join(make_join(page, newcomer))
    theirs = Identity(site=UUID(str(newcomer.uuid)), keys=Keys.make())

    def present() -> None:
        from sites.services.enrolment import present_keys

        present_keys(theirs.enrol_request(join.secret, host="edge-9"), remote="198.51.100.9")

    stage.ask(present)
    page.goto("/sites/waiting/")
    expect(page.locator(".fingerprint")).to_have_text(theirs.keys.fingerprint)
    page.get_by_label("I compared the fingerprint").check()
    page.get_by_role("button", name="Accept").click()
    expect(page.get_by_text("are accepted")).to_be_visible()
    page.goto(f"/sites/{newcomer.slug}/")
    page.get_by_text("Revoke…").click()
    page.get_by_label("Why the keys are revoked").fill("Stolen")
    page.get_by_label("to confirm").fill(newcomer.slug)
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator("#identity .cardhead")).to_contain_text("Revoked")
    plain.close()
