"""Row 25 of the matrix: whatever people and sites write is shown as text, on every page and in every format."""

import csv
import io
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest
from django.utils import timezone

from agent.protocol import Component, Workload
from fleet.people.models import User
from fleet.people.selectors import access_of
from fleet.rollouts.services.planning import plan_rollout
from fleet.standards.services.judging import judge_due
from sites.models import DesiredDocument, JournalEntry, JournalEnvelope, Site, SiteDesired
from sites.services.desired import EMPTY
from sites.services.reports import record_reports
from sites.services.sites import update_site
from slas.services.report_files import make_files
from tests.conftest import TEST, everything
from tests.database import OWNER, rows
from tests.fleet.rollouts.receiver import one_webhook
from tests.fleet.standards.factories import IMAGE, make_ring, make_standard
from tests.meta.routes import (
    CONTRACT,
    DISPUTE,
    OUTAGE,
    PAGES,
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
)
from tests.sites.builders import a_report, polled
from tests.sites.identities import keys
from tests.slas.hostile import write_slas
from tests.slas.signing import signer_of_files

HOSTILE = [
    "<script>probe()</script>",
    "<probe hx-get='/probe'>",
    '"><probe onload="probe()" probe=',
    "' probe='1' x='",
    "javascript:probe()",
    "{{ probe }}{% probe %}",
    "</title></textarea></script><probe>",
    "\u202eprobe\u2066",
    "<!--probe",
    "&lt;probe&gt;",
    "=cmd|' /C probe'!A1",
    "@probe",
]


class Reader(HTMLParser):
    """Collects what a browser would make of a page: elements, attributes, text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.text: list[str] = []
        self.scripts: list[dict[str, str | None]] = []
        self.comments: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.scripts.append(dict(attrs))
        if "probe" in tag:
            self.found.append(f"<{tag}>")
        for name, value in attrs:
            text = (value or "").strip().lower()
            is_code = name.startswith(("on", "hx-on")) or name == "style"
            is_link = name in {"href", "src", "action", "formaction"} or name.startswith("hx-")
            if (
                "probe" in name
                or is_code
                or (is_link and (text.startswith(("javascript:", "data:")) or text == "/probe"))
            ):
                self.found.append(f"<{tag} {name}={value}>")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


def read(response: Any) -> Reader:
    reader = Reader()
    reader.feed(response.content.decode())
    reader.close()
    return reader


def test_the_reader_finds_what_it_looks_for():
    for text in (
        *("<probe>", "<a probe=1>", "<a href='javascript:x'>", "<a onclick=x>", "<b style='x'>", "<a hx-get='/probe'>"),
        "<img src=' JavaScript:x'/>",
    ):
        reader = Reader()
        reader.feed(text)
        assert reader.found, text


@pytest.fixture
def site(make_provider: Any, make_site: Any, make_person: Any) -> Site:
    """A site and a provider whose every word is hostile."""
    everything_hostile = " ".join(HOSTILE)
    provider = make_provider("hostile", name=everything_hostile[:119], contact=everything_hostile)
    site = make_site(
        *("hostile-site", provider),
        name=everything_hostile[:119],
        place="".join(HOSTILE)[:119],
        region="<probe hx-get='/probe'>",
        labels={"note": everything_hostile[:119]},
        contacts=everything_hostile,
        notes=everything_hostile,
    )
    values = {"notes": "\n".join(HOSTILE)}
    update_site(actor=TEST, rights=everything(), site=site, values=values)
    for state in ("down", "down", "down"):
        result = polled(site, state)
        components = tuple(Component("workload", text, text, None) for text in HOSTILE)
        report = msgspec.structs.replace(
            a_report(site.uuid, state, components=components, reasons=tuple(HOSTILE)),
            boot=HOSTILE[0],
            workloads=tuple(Workload(name=text, state="running", health="healthy", managed=True) for text in HOSTILE),
        )
        record_reports([replace(result, report=report)], poller="test")
    write_journal(site)
    write_standard(site)
    write_rollout(site, make_person("operator", username="<probe>author"))
    write_webhook()
    write_slas(site, HOSTILE, make_person)
    return site


def write_standard(site: Site) -> None:
    """A standard and a ring of hostile words, and the site judged by them."""
    words = " ".join(HOSTILE)
    workload = {"name": "pos", "image": IMAGE, "version": words[:120], "config": {"env": {"A": words}}}
    notes = {"notes": words, "made_by": HOSTILE[0]}
    content = {"workloads": [workload], "os": {"kernel": HOSTILE[0]}}
    make_ring(make_standard("hostile-r0", content, **notes), "hostile", name=words[:60], note=words[:400])
    make_standard("hostile-r1", content, state="draft", published_at=None, published_by="", **notes)
    judge_due()


def write_rollout(site: Site, author: User) -> None:
    """A rollout whose every word is hostile, and a hold of the site."""
    words = " ".join(HOSTILE)
    actor, rights = access_of(author)
    values = {
        "name": words[:119],
        "standard": "hostile-r0",
        "waves": [
            {
                "name": HOSTILE[0],
                "sites": [site.pk],
                "why": words[:119],
                "gates": [{"type": "human", "question": words[:200]}],
            }
        ],
    }
    plan_rollout(actor=actor, rights=rights, values=values)
    rows("UPDATE rollouts_rollout SET reason = %s", [words], using=OWNER)
    rows("UPDATE rollouts_wave SET state = 'held', opened_at = now(), reason = %s", [words], using=OWNER)
    rows(
        "UPDATE rollouts_sitestep SET state = 'failed', failure = 'unhealthy', begun_at = now(), reason = %s",
        [words],
        using=OWNER,
    )
    rows(
        "INSERT INTO rollouts_rolloutevent (rollout_id, at, actor, thing, event, state, wave, step_id, provider_id,"
        " sentence) SELECT s.rollout_id, now(), %s, 'step', 'fail', 'failed', s.wave, s.id, s.provider_id, %s"
        " FROM rollouts_sitestep s",
        [HOSTILE[0], words],
        using=OWNER,
    )
    rows(
        "INSERT INTO rollouts_hold (provider_id, region, site_id, reason, until, made_by, lifted_by, overridden_by)"
        " VALUES (%s, '', %s, %s, now() + interval '1 day', %s, '', '[]')",
        [site.provider_id, site.pk, words[:300], HOSTILE[1]],
        using=OWNER,
    )


def stand(state: str, pause: str = "", wave: str = "held", lane: str = "open") -> None:
    """Let the rollout stand like this; it is a draft until then."""
    if state != "draft":
        values = [state, pause, lane]
        rows("UPDATE rollouts_rollout SET state = %s, pause = %s, lane = %s, started_at = now()", values, using=OWNER)
    rows("UPDATE rollouts_wave SET state = %s", [wave], using=OWNER)


def write_webhook() -> None:
    """A webhook with a message that was given up; its receiver answered in hostile words."""
    words = " ".join(HOSTILE)
    one_webhook(words[:64])
    rows(
        "UPDATE rollouts_webhookdelivery SET status = 500, answer = %s, problem = %s, tried_at = now()",
        [words[:500], words[:300]],
        using=OWNER,
    )


def write_journal(site: Site) -> None:
    """What a hostile site may have written down, signed and all."""
    identity = keys(site, host=" ".join(HOSTILE)[:255], agent=HOSTILE[0][:64])
    common = {"site_id": site.pk, "provider_id": site.provider_id}
    envelope = JournalEnvelope.objects.using("owner").create(
        **common, identity_id=identity.pk, from_seq=1, to_seq=len(HOSTILE), head="sha256:" + "0" * 64, body=b""
    )
    now = timezone.now()
    document = DesiredDocument.objects.using("owner").create(
        **common,
        epoch=1,
        version=1,
        content=dict(EMPTY),
        issued_at=now,
        expires_at=now + timedelta(days=1),
        reason=" ".join(HOSTILE)[:300],
        made_by=HOSTILE[0],
    )
    SiteDesired.objects.using("owner").create(
        **common,
        version=1,
        document_id=document.pk,
        answer="refused",
        answer_reason="malformed",
        answer_detail=" ".join(HOSTILE)[:300],
        answered_at=now,
        reported_version=1,
        reported_state="failed",
        reported_detail=" ".join(HOSTILE)[:500],
        reported_at=now,
    )
    for seq, text in enumerate(HOSTILE, 1):
        JournalEntry.objects.using("owner").create(
            **common,
            identity_id=identity.pk,
            envelope_id=envelope.pk,
            seq=seq,
            digest="sha256:" + "0" * 64,
            kind="access",
            boot=text[:64],
            mono_ms=0,
            at=now,
            mapped_at=now,
            uncertainty_ms=0,
            body={"who": text, "what": text, "outcome": text},
        )


SLUGS = {
    SITE: "hostile-site",
    PROVIDER: "hostile",
    STANDARD: "hostile-r1",
    RING: "hostile",
    ROLLOUT: "hostile-site",
    WEBHOOK: "1",
    CONTRACT: "hostile",
    WINDOW: "1",
    OUTAGE: "1",
    DISPUTE: "1",
    REPORT: "hostile-site",
    REPORT_FILE: "hostile",
    SCHEDULE: "1",
}
# How the rollout stands where a page about it is readable, if not held.
STANDS = {
    "edit": ("draft", "", "pending"),
    "do/submit": ("draft", "", "pending"),
    "do/approve": ("awaiting_approval", "", "pending"),
    "do/reject": ("awaiting_approval", "", "pending"),
    "do/start": ("scheduled", "", "pending"),
    "do/pause": ("running", "", "open"),
    "do/freeze": ("running", "", "open"),
    "do/resume": ("paused", "stopped", "open"),
    "do/reopen_lane": ("running", "", "open", "halted"),
}
READABLE = [route for route in PAGES if "GET" in route.methods]


@pytest.mark.parametrize("route", READABLE, ids=str)
def test_no_page_takes_hostile_text_for_markup(site, signed_in, route, tmp_path):
    client = signed_in("admin", username="<probe>" if route.path == "" else "")
    slug = SLUGS.get(route.about, "")
    if route.about == REPORT_FILE:
        with signer_of_files(tmp_path):
            make_files()
    if route.about == ROLLOUT:
        stand(*STANDS.get(route.path.removeprefix("rollouts/<int:pk>/").rstrip("/"), ("paused", "stopped")))
    shown, is_page = 0, False
    for query in ({}, {"q": HOSTILE[2]}, {"site": "hostile-site"}, {"state": HOSTILE[1], "region": HOSTILE[3]}):
        for fragment in (False, True):
            response = client.get(route.at(slug), query, headers={"HX-Request": "true"} if fragment else {})
            assert response.status_code == 200
            if response["Content-Type"].startswith("text/html"):
                reader, is_page = read(response), True
                assert reader.found == []
                assert reader.comments == []
                # Only our own files are scripts; nothing is written between the tags.
                assert all((script.get("src") or "").startswith("/static/") for script in reader.scripts)
                shown += " ".join(reader.text).count("probe")
    if route.about in SLUGS and is_page:
        assert shown > 0, "the hostile text is not on the page, so this proved nothing"


def test_hostile_text_is_on_the_page_letter_for_letter(site, signed_in):
    text = " ".join(read(signed_in("admin").get("/sites/hostile-site/")).text)
    for hostile in HOSTILE:
        if hostile.isprintable():
            assert hostile in text, hostile


def test_json_is_json(site, signed_in):
    client = signed_in("viewer")
    for path in ("/map.json", "/api/v1/sites/hostile-site", "/sites/hostile-site/samples.json"):
        response = client.get(path)
        assert response["Content-Type"].startswith("application/json")
        assert response["X-Content-Type-Options"] == "nosniff"
    assert client.get("/map.json").json()["sites"][0][2] == Site.objects.using(OWNER).get().name


def test_the_export_is_no_page_and_holds_no_formula(site, signed_in):
    Site.objects.using(OWNER).update(
        name="=cmd|' /C probe'!A1", place="@probe", region="+1", contacts="-1", notes="\t=1"
    )
    response = signed_in("viewer").get("/sites/export.csv")
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"] == 'attachment; filename="sites.csv"'
    (row,) = csv.DictReader(io.StringIO(response.content.decode("utf-8-sig")))
    cells = [cell for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert cells == []
    assert row["name"] == "'=cmd|' /C probe'!A1"


@pytest.mark.parametrize(
    "path", ["/<script>probe</script>/", "/sites/%3Cprobe%3E/", "/?%3Cprobe%3E=1", "/search/?q=%22%3E%3Cprobe%3E"]
)
def test_addresses_are_not_markup_either(site, signed_in, path):
    assert read(signed_in("viewer").get(path)).found == []


def test_a_toast_is_json_in_a_header_of_one_line(site, signed_in):
    client = signed_in("operator")
    response = client.post("/sites/hostile-site/poll-now/", headers={"HX-Request": "true"})
    assert response.status_code == 204
    trigger = msgspec.json.decode(response["HX-Trigger"])
    assert "probe" in trigger["toast"]["text"]
    assert "\n" not in response["HX-Trigger"]
    assert response["HX-Trigger"].isascii()
