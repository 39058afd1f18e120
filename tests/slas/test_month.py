"""October 2026 at four sites of two providers, from real journals and polls to figures that are derived by hand here.

Times are Berlin's. Hours are 06:00 to 22:00, and all of each Sunday; clocks go back on Sunday the 25th. A full month:

    22 weekdays (1, 2, 5-9, 12-16, 19-23, 26-30) and 4 Saturdays (10, 17, 24, 31; the 3rd is a holiday) of 16 h  416 h
    3 Sundays (4, 11, 18) of 24 h, and the 25th of 25 h                                                           97 h
    together                                                                                                     513 h

What happens:

     6th  anker's link is cut from 09:00 to 13:00; its journal, read at 18:01, says that it ran on, degraded 10:00-10:30
    12th  dock is down from 12:00 to 15:00: a digger, as its provider says in November
    13th  anker is down from 10:00 to 13:00 in maintenance that was agreed on, 10:00-14:00: all of the cap of 4 h
    14th  anker is down from 10:00 to 11:00 in maintenance that nobody agreed to
    15th  brise is down from 20:00 until 08:00 on the 16th; it was handed over from nord to sued at midnight
    20th  anker is down from 10:00 to 10:20 in maintenance that was agreed on, over the cap
    21st  clipper is down from 11:05 to 11:50, while a rollout is at work there
    25th  the centre reaches nobody from 01:30 (summer time) to 03:30 (winter time), 3 h; clipper's journal says it ran
    31st  dock's link is cut at 20:00, its power fails at 21:00; it comes back in November, after the report is final
"""

import json
import subprocess
import venv
from collections.abc import Iterator
from datetime import datetime, timedelta
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from asn1crypto import pem, x509
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko_certvalidator import ValidationContext

from fleet.kit.tenancy import Scope, scope
from fleet.people.selectors import access_of
from fleet.rollouts.models import Rollout
from fleet.rollouts.services import control, planning
from fleet.rollouts.services.ticking import tick
from sites.models import SiteDesired
from sites.services.sites import update_site
from slas.engine import Totals, Verdict
from slas.exports import files, zipapp
from slas.measuring import SiteFigures
from slas.models import CentreBlind, ContractVersion, Incident, IncidentSpan, Report, Window
from slas.present.reports import measured_rows
from slas.selectors.figures import figures_of
from slas.selectors.incidents import why_of
from slas.selectors.report_files import get_file
from slas.selectors.reports import revision_of, whole
from slas.selectors.site_months import site_month
from slas.services.blindness import find_blindness
from slas.services.deciding import decide_dispute
from slas.services.deriving import derive_due
from slas.services.disputes import attach_file, file_dispute
from slas.services.report_files import make_files
from slas.services.report_making import keep_reports, make_wanted
from slas.services.upkeep import decide_window, request_window
from slas.states import FileKind, Measure
from tests.conftest import everything
from tests.database import OWNER, rows
from tests.fleet.rollouts.played import LAX, NEW, QUICK, SIGN
from tests.fleet.standards.factories import make_standard
from tests.sites.told import document, standing
from tests.slas.factories import TEST, make_contract, objective, segment
from tests.slas.signing import signer_of_files
from tests.slas.simulated import BERLIN, MINUTE, AgentSite, Clock, berlin, miss, poll, simulated_clock
from tests.slas.test_bundles import link_package

M = 60_000
H = 60 * M
BEGIN, END = berlin(1), berlin(1, month=11)
FINAL = END + timedelta(hours=72)
# 1, 2, 5-10 and 12-15 are twelve days of 16 h; the 4th and the 11th are Sundays.
MONTH, UNTIL_16TH = 513 * H, (12 * 16 + 2 * 24) * H
FROM_16TH = MONTH - UNTIL_16TH
HOURS = {
    "timezone": "Europe/Berlin",
    "weekly": {day: [["06:00", "22:00"]] for day in ("mon", "tue", "wed", "thu", "fri", "sat")}
    | {"sun": [["00:00", "24:00"]]},
    "holidays": {"country": "DE"},
}
UPKEEP = {"counts": "excluded", "notice_h": "72", "cap_h": "4", "cap_per": "month"}
CAUSES = ["operator_rollout", "operator_change", "workload", "third_party"]


class Month:
    """The centre, four sites, those who run the fleet and a provider; what happens is played day by day."""

    def __init__(self, clock: Clock, made: SimpleNamespace, folder: Path) -> None:
        self.clock, self.made = clock, made
        self.nord, self.sued = made.provider("nord"), made.provider("sued")
        self.manager, self.operator = access_of(made.person("manager")), access_of(made.person("operator"))
        self.nords = access_of(made.person("provider_operator", provider=self.nord))
        given = {"anker": self.nord, "brise": self.nord, "clipper": self.nord, "dock": self.sued}
        self.anker, self.brise, self.clipper, self.dock = (
            AgentSite(clock, made.site(slug, provider), folder, seed)
            for seed, (slug, provider) in enumerate(given.items(), start=1)
        )
        self.all = (self.anker, self.brise, self.clipper, self.dock)
        poll(*self.all)
        # Sites elsewhere are polled all the while: pollers beat every minute.
        rows(
            "INSERT INTO edge_sites_pollerbeat (poller, minute, polls, failures, lag_max_ms)"
            " SELECT 'elsewhere', m, 1, 0, 0 FROM generate_series(date_trunc('minute', %s), %s, interval '1 min') m",
            [clock.now, FINAL + timedelta(days=9)],
            using=OWNER,
        )

    # What is done ---------------------------------------------------------------------------------------------
    def at(self, day: int, hour: int = 0, minute: int = 0, **more: int) -> datetime:
        """Go to that moment."""
        self.clock.set(berlin(day, hour, minute, **more))
        return self.clock.now

    def goes(self, site: AgentSite, mode: Any) -> None:
        """The site says at once how it is, when it is polled."""
        site.mode(mode)
        poll(site)
        derive_due()

    def cut(self, *sites: AgentSite) -> None:
        """They answer just now, and are not reached any more."""
        poll(*sites)
        miss(self.clock, *sites)
        derive_due()

    def window(self, day: int, hour: int, lasts_h: int, *, asked: int, decided: int | None) -> Window:
        """Maintenance at anker that its provider asks for, and may be granted."""
        self.at(asked, 8)
        begin = berlin(day, hour)
        actor, rights = self.nords
        ends = begin + timedelta(hours=lasts_h)
        made = request_window(actor=actor, rights=rights, sites=["anker"], title="Fans", begins=begin, ends=ends)
        if decided is not None:
            self.at(decided, 9)
            decide_window(actor=self.manager[0], rights=self.manager[1], window=made, approve=True)
        return made

    def rolled_out(self) -> Rollout:
        """A rollout to clipper, approved, whose document is sent at this moment."""
        document(self.clipper.site)
        told = {"reported_epoch": 1, "reported_version": 1, "reported_state": "applied", "answer": "accepted"}
        standing(self.clipper.site, **told)
        poll(self.clipper)
        waves = [{"name": "only", "sites": [self.clipper.site.pk], "gates": LAX}]
        values = {"name": "autumn", "standard": make_standard("2026.10-r1", NEW).name, "waves": waves, "times": QUICK}
        actor, rights = self.operator
        made = planning.plan_rollout(actor=actor, rights=rights, values=values | {"caps": {"in_flight": 9}})
        control.submit(actor=actor, rights=rights, rollout=made, expect=made.plan_hash)
        control.approve(actor=self.manager[0], rights=self.manager[1], rollout=made, expect=made.plan_hash)
        tick()
        assert rows(SIGN, using=OWNER) == [(self.clipper.site.pk,)]
        return made

    # What is seen ---------------------------------------------------------------------------------------------
    def figures(
        self, version: ContractVersion, as_of: datetime, measure: Measure = Measure.AVAILABILITY, who: Scope = TEST
    ) -> dict[tuple[str, str], SiteFigures]:
        """By provider and site."""
        with scope(who):
            names = {one.pk: one.provider.slug for one in version.segments.all()}
            found = figures_of(version.contract, BEGIN, END, as_of).results
            return {
                (names[result.segment_id], row.slug): row
                for result in found
                if result.objective.measure is measure
                for row in result.sites
            }

    def causes(self, site: AgentSite) -> list[tuple[str, datetime, str, str]]:
        """The site's outages: kind, begin, cause and whose."""
        with scope(TEST):
            spans = IncidentSpan.objects.filter(site=site.site, superseded_at=None).order_by("valid_from", "kind")
            why = why_of([span.incident_id for span in spans])
            listed = []
            for span in spans:
                found = why.get((span.incident_id, span.provider_id))
                cause = (found.cause, found.charged_to) if found else ("unknown", "nobody")
                listed.append((span.kind, span.valid_from, *cause))
            return listed


@pytest.fixture
def month(
    database: None, make_provider: Any, make_site: Any, make_person: Any, monkeypatch: Any, tmp_path: Path
) -> Iterator[Month]:
    made = SimpleNamespace(provider=make_provider, site=make_site, person=make_person)
    with simulated_clock(monkeypatch, berlin(25, 10, month=9), until=FINAL + timedelta(days=3)) as clock:
        yield Month(clock, made, tmp_path)


def agreed() -> ContractVersion:
    terms = {"calendar": HOURS, "maintenance": UPKEEP, "excluded_causes": CAUSES}
    terms["objectives"] = [objective(), objective(measure="reachability", target="99")]
    begins = "2026-10-01T00:00"
    return make_contract(
        segment("nord", begins=begins, **terms), segment("sued", begins=begins, **terms), zone="Europe/Berlin"
    )


def up(scheduled: int, excluded: int = 0, unknown: int = 0, down: int = 0, degraded: int = 0) -> Totals:
    """What is left is up."""
    return Totals(scheduled, excluded, unknown, down, degraded, scheduled - excluded - unknown - down - degraded)


# Day by day -------------------------------------------------------------------------------------------------
def first_half(it: Month, version: ContractVersion) -> None:
    # The 6th: nothing is known of four hours, until the journal says it.
    it.at(6, 8, 50)
    it.anker.remember()
    it.anker.live(berlin(6, 9))
    it.cut(it.anker)
    it.anker.live(berlin(6, 10))
    it.anker.mode("degraded")
    it.anker.live(berlin(6, 10, 30))
    it.anker.mode(None)
    it.anker.live(berlin(6, 13))
    poll(it.anker)
    derive_due()
    it.anker.live(berlin(6, 18))
    as_of = it.clock.now
    # Three days of 16 h (1, 2, 5), the Sunday, and 12 h of the 6th.
    so_far = (3 * 16 + 24 + 12) * H
    assert it.figures(version, as_of)["nord", "anker"].totals == up(so_far, unknown=4 * H)
    it.anker.live(as_of + MINUTE)
    assert it.anker.read_journal() == 2
    derive_due()
    assert it.figures(version, as_of + MINUTE)["nord", "anker"].totals == up(so_far + M, degraded=30 * M)
    assert it.figures(version, as_of)["nord", "anker"].totals == up(so_far, unknown=4 * H)

    it.window(13, 10, 4, asked=8, decided=9)
    it.window(14, 10, 2, asked=9, decided=None)
    it.at(12, 12)
    it.goes(it.dock, "down")
    it.at(12, 15)
    it.goes(it.dock, None)
    for day, hour, minute, mode in ((13, 10, 0, "down"), (13, 13, 0, None), (14, 10, 0, "down"), (14, 11, 0, None)):
        it.at(day, hour, minute)
        it.goes(it.anker, mode)
    it.at(15, 20)
    it.goes(it.brise, "down")
    it.at(16)
    update_site(actor=TEST, rights=everything(), site=it.brise.site, values={"provider_id": it.sued.pk})
    it.at(16, 8)
    it.goes(it.brise, None)


def second_half(it: Month) -> None:
    it.window(20, 10, 1, asked=16, decided=17)
    it.at(20, 10)
    it.goes(it.anker, "down")
    it.at(20, 10, 20)
    it.goes(it.anker, None)

    it.at(21, 11)
    made = it.rolled_out()
    it.at(21, 11, 5)
    it.goes(it.clipper, "down")
    it.at(21, 11, 50)
    it.goes(it.clipper, None)
    row = SiteDesired.objects.using(OWNER).get(pk=it.clipper.site.pk)
    told = {"reported_epoch": row.epoch, "reported_version": row.version, "answer": "accepted"}
    standing(it.clipper.site, reported_state="rolled_back", reported_detail="its health check never passed", **told)
    tick()
    with scope(TEST):
        assert made.pk == Rollout.objects.get().pk

    # The 25th, from 01:30 in summer time to 03:30 in winter time.
    it.at(25, 1, 20)
    it.clipper.remember()
    it.clipper.live(berlin(25, 1, 30))
    it.cut(*it.all)
    find_blindness()
    it.clipper.live(berlin(25, 3, 30))
    poll(*it.all)
    find_blindness()
    derive_due()
    it.clipper.live(berlin(25, 4))
    poll(it.clipper)
    it.clipper.read_journal()
    derive_due()

    it.at(31, 19, 50)
    it.dock.remember()
    it.dock.live(berlin(31, 20))
    it.cut(it.dock)
    it.dock.live(berlin(31, 21))
    it.dock.mode("off")


def test_a_month_that_is_derived_by_hand(month: Month, tmp_path: Path) -> None:
    it = month
    it.at(26, 10, month=9)
    version = agreed()
    first_half(it, version)
    second_half(it)
    with scope(TEST):
        (blind,) = CentreBlind.objects.all()
    assert (blind.rule, blind.valid_from, blind.valid_to) == ("mass_loss", berlin(25, 1, 30), berlin(25, 3, 30))

    # Final, with what was known 72 h after the month's end.
    final = {
        # 4 h of maintenance and 3 h of the centre's; down 1 h that nobody agreed to and 20 min over the cap.
        ("nord", "anker"): up(MONTH, excluded=7 * H, down=80 * M, degraded=30 * M),
        # Down 20:00 to 22:00, and nord's part ends at midnight.
        ("nord", "brise"): up(UNTIL_16TH, down=2 * H),
        # 45 min of the rollout; of the centre's 3 h its journal speaks.
        ("nord", "clipper"): up(MONTH, excluded=45 * M),
        # Down 06:00 to 08:00; 3 h of the centre's.
        ("sued", "brise"): up(FROM_16TH, excluded=3 * H, down=2 * H),
        # Down 12:00 to 15:00 on the 12th; not known from 20:00 to 22:00 on the 31st.
        ("sued", "dock"): up(MONTH, excluded=3 * H, unknown=2 * H, down=3 * H),
    }
    it.clock.set(FINAL)
    found = it.figures(version, FINAL)
    assert {key: row.totals for key, row in found.items()} == final
    shares = {key: (row.shares.floor, row.shares.ceiling, row.settled.verdict) for key, row in found.items()}
    assert shares == {
        ("nord", "anker"): (Fraction(30280, 30360), Fraction(30280, 30360), Verdict.MET),  # of 506 h, in minutes
        ("nord", "brise"): (Fraction(238, 240), Fraction(238, 240), Verdict.MISSED),
        ("nord", "clipper"): (1, 1, Verdict.MET),
        ("sued", "brise"): (Fraction(268, 270), Fraction(268, 270), Verdict.MISSED),
        ("sued", "dock"): (Fraction(505, 510), Fraction(507, 510), Verdict.MISSED),
    }
    reach = {key: row.totals for key, row in it.figures(version, FINAL, Measure.REACHABILITY).items()}
    assert reach == {
        ("nord", "anker"): up(MONTH, excluded=7 * H, down=4 * H),
        ("nord", "brise"): up(UNTIL_16TH),
        ("nord", "clipper"): up(MONTH, excluded=3 * H),
        ("sued", "brise"): up(FROM_16TH, excluded=3 * H),
        ("sued", "dock"): up(MONTH, excluded=3 * H, down=2 * H),
    }

    (report,) = _made()
    assert (report.period, report.state) == ("2026-10", "final")
    assert _says(report, 1) == {(*key, "availability"): totals for key, totals in final.items()} | {
        (*key, "reachability"): totals for key, totals in reach.items()
    }

    # On the 5th of November dock is back: it ran on for an hour, and was without power from a minute later on. Its
    # provider disputes the 12th, and is right. The final figures stay as they were.
    it.at(5, 10, month=11)
    it.dock.mode(None)
    poll(it.dock)
    it.dock.read_journal()
    derive_due()
    _dispute_the_12th(it)
    restated = final | {("sued", "dock"): up(MONTH, excluded=6 * H, unknown=M, down=59 * M)}
    now = it.at(6, 12, month=11)
    found = it.figures(version, now)
    assert {key: row.totals for key, row in found.items()} == restated
    dock = found["sued", "dock"]
    assert (dock.shares.floor, dock.settled.verdict) == (Fraction(506, 507), Verdict.MET)
    assert dock.shares.ceiling == Fraction(507 * 60 - 59, 507 * 60)
    assert {key: row.totals for key, row in it.figures(version, FINAL).items()} == final
    sueds = Scope(name="sued", providers=frozenset({it.sued.pk}))
    own = {key: row.totals for key, row in it.figures(version, now, who=sueds).items()}
    assert own == {key: totals for key, totals in restated.items() if key[0] == "sued"}
    _causes(it)

    # The report is restated with what differs. Signed files of both revisions are made now, when the signer is back.
    (report,) = _made()
    assert report.state == "restated"
    assert _says(report, 2) == _says(report, 1) | {("sued", "dock", "availability"): restated["sued", "dock"]}
    _differs_by_the_12th_and_the_31st(report)
    with signer_of_files(tmp_path):
        assert make_files() == 8
    _what_was_granted_is_evidence(report)
    for number, totals in ((1, final), (2, restated)):
        _opens_and_verifies(report, number)
        assert _recomputed(report, number, tmp_path) == totals


# The report -------------------------------------------------------------------------------------------------
def _made() -> list[Report]:
    """The reports of which any was due, each made by the service."""
    assert (keep_reports(), make_wanted()) == (1, 1)
    with scope(TEST):
        return list(Report.objects.select_related("contract"))


def _says(report: Report, number: int) -> dict[tuple[str, str, str], Totals]:
    """By provider, site and measure, out of the parts that the revision keeps."""
    with scope(TEST):
        told = revision_of(report, number)
        assert told is not None
        papers = [(part.provider.slug, paper) for part, paper in whole(told.parts)]
    assert [slug for slug, _ in papers] == ["nord", "sued"]
    return {(slug, one.slug, one.measure): one.totals for slug, paper in papers for one in paper.places}


def _dispute_the_12th(it: Month) -> None:
    """Sued files a claim, and a manager accepts it."""
    with scope(TEST):
        incident = Incident.objects.get(site=it.dock.site, kind="down", spans__valid_from=berlin(12, 12))
    actor, rights = access_of(it.made.person("provider_operator", username="sued", provider=it.sued))
    claim = file_dispute(actor=actor, rights=rights, incident=incident, cause="third_party", text="A digger, it was.")
    attach_file(actor=actor, rights=rights, dispute=claim, name="digger.txt", body=b"It dug where our cable lay.")
    actor, rights = it.manager
    decide_dispute(actor=actor, rights=rights, dispute=claim, decision="accepted", reason="A digger, as they said.")


def _differs_by_the_12th_and_the_31st(report: Report) -> None:
    """Three hours are excluded; of two unknown ones 60 minutes were up, 59 down, and one is still not known."""
    with scope(TEST):
        told = revision_of(report, 2)
    assert told is not None
    nords, sueds = (part.diff for part in told.parts)
    assert nords == {"causes": [], "promises": [], "sites": [], "counted": [], "offers": []}
    assert sueds is not None
    gained = {"excluded": 180 * M, "unknown": -119 * M, "down": -121 * M, "up": 60 * M}
    assert [(one["measure"], one["slug"], one["ms"]) for one in sueds["sites"]] == [("availability", "dock", gained)]
    (promise,) = sueds["promises"]
    assert (promise["measure"], promise["ms"]) == ("availability", gained)
    assert any("A digger, as they said." in cause for cause in told.causes), told.causes


def _what_was_granted_is_evidence(report: Report) -> None:
    """In the second revision's bundle, and on the site's page; of the first one it was not known."""
    with scope(TEST):
        for number in (1, 2):
            payload = bytes(get_file(report, number, "sued", FileKind.BUNDLE).content or b"")
            assert (b'"type":"adjustment"' in payload) == (number == 2)
        told = revision_of(report)
        assert told is not None
        rows = measured_rows(site_month(report, told.revision, "dock"))
    said = [proof["says"] for row in rows for piece in row["pieces"] for proof in piece["proofs"]]
    assert [one for one in said if one.startswith("granted")] == ["granted. Dispute 1: A digger, as they said."]


def _opens_and_verifies(report: Report, number: int) -> None:
    """Each provider's PDF file is signed by a key that the fleet's root vouches for, and says whose it is."""
    for provider in ("nord", "sued"):
        with scope(TEST):
            row = get_file(report, number, provider, FileKind.PDF)
        reader = PdfFileReader(BytesIO(files.file_of(row)))
        root = x509.Certificate.load(pem.unarmor(row.root.encode())[2])
        (signature,) = reader.embedded_signatures
        status = validate_pdf_signature(signature, ValidationContext(trust_roots=[root], allow_fetching=False))
        assert (status.bottom_line, status.coverage.name) == (True, "ENTIRE_FILE")
        assert reader.trailer["/Info"]["/Title"] == f"Shops: October 2026: {provider.title()}"


def _recomputed(report: Report, number: int, folder: Path) -> dict[tuple[str, str], Totals]:
    """The availability that a revision's bundles give in an environment of its own, offline.

    That has `tzdata` and `cryptography` (with what it is made of), and nothing of ours but the verifier in one file.
    """
    (folder / zipapp.NAME).write_bytes(zipapp.verifier())
    found = {}
    for slug in ("nord", "sued"):
        with scope(TEST):
            row = get_file(report, number, slug, FileKind.BUNDLE)
        (folder / "bundle.json").write_bytes(files.file_of(row))
        key = files.fingerprints_of(row).key
        python = empty_python(folder / "empty")
        command = [python, "-I", folder / zipapp.NAME, folder / "bundle.json", "--key", key]
        done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONTZPATH": ""}, check=False)
        assert (done.returncode, done.stderr.split(",")[0]) == (0, "signature: valid")
        for one in map(json.loads, done.stdout.splitlines()):
            _, provider, measure, site = one["name"].split()
            assert provider == slug
            if measure == Measure.AVAILABILITY:
                found[provider, site] = Totals(*(one[name] for name in Totals.__dataclass_fields__))
    return found


def empty_python(folder: Path) -> Path:
    if not folder.exists():
        venv.create(folder, with_pip=False, symlinks=True)
        (packages,) = (folder / "lib").glob("python*/site-packages")
        for name in ("tzdata", "cryptography", "cffi", "pycparser"):
            link_package(packages, name)
    return folder / "bin" / "python"


def _causes(it: Month) -> None:
    """Why each outage was, and whose it is; an outage across the hand-over is one."""
    silence = ("unreachable", berlin(25, 1, 30), "centre", "operator")
    assert it.causes(it.anker) == [
        ("unreachable", berlin(6, 9), "link", "provider"),
        ("degraded", berlin(6, 10), "unknown", "nobody"),
        ("down", berlin(13, 10), "maintenance", "provider"),
        ("down", berlin(14, 10), "unknown", "nobody"),
        ("down", berlin(20, 10), "maintenance", "provider"),
        silence,
    ]
    assert it.causes(it.brise) == [
        ("down", berlin(15, 20), "unknown", "nobody"),
        ("down", berlin(16), "unknown", "nobody"),
        silence,
    ]
    assert it.causes(it.clipper) == [("down", berlin(21, 11, 5), "operator_rollout", "operator"), silence]
    assert it.causes(it.dock) == [
        ("down", berlin(12, 12), "third_party", "third_party"),
        silence,
        ("unreachable", berlin(31, 20), "power", "provider"),
        ("down", berlin(31, 21, 1), "power", "provider"),
    ]
    with scope(TEST):
        assert Incident.objects.filter(site=it.brise.site, kind="down", merged_into=None).count() == 1


def test_the_clocks_of_berlin() -> None:
    """The times above are what they say: 745 h of month, and three hours around the switch."""
    assert (END - BEGIN) / timedelta(hours=1) == 745
    assert berlin(25, 3, 30) - berlin(25, 1, 30) == timedelta(hours=3)
    assert berlin(1).astimezone(BERLIN).hour == 0
