"""Files of reports: figures rounded down, numbers as numbers, nothing that a spreadsheet takes for a formula; a PDF
that is tagged and whose signature verifies by the fleet's root."""

import csv
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import pem, x509
from openpyxl import load_workbook
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko_certvalidator import ValidationContext

from fleet.kit import signing
from fleet.kit.tenancy import Limit, Scope, scope
from fleet.signer.reports import ReportToSign
from slas.engine import Figures, Totals
from slas.exports.files import joined
from slas.exports.pdf import content_of, enveloped, pdf_of, prepared
from slas.exports.sheets import csv_of, json_of, xlsx_of
from slas.models import ReportFile
from slas.reporting.paper import Head, Lost, Paper, Place, Promise, Restored, Upkeep
from slas.selectors.papers import paper_of
from tests.slas.factories import DECEMBER, NOVEMBER, TEST, make_contract, objective, segment, states, tenures
from tests.slas.signing import signer_of_reports

H = 3_600_000
END = NOVEMBER + timedelta(days=30)
ALMOST = Figures(Fraction(99_999, 100_000), Fraction(711, 716), Fraction(714, 716), Fraction(713, 716))


def paper(sites: int = 3, name: str = "Shop") -> Paper:
    totals = Totals(720 * H, 4 * H, 3 * H, 2 * H, H, 710 * H)
    return Paper(
        Head("Shops", "November 2026", NOVEMBER, END, "Europe/Berlin", END, "Revision 1, final", 2, "ab" * 32),
        [
            Promise(
                *(
                    "Nord",
                    "availability",
                    "each_site",
                    "provider",
                    Fraction(995, 1000),
                    totals,
                    ALMOST,
                    "MISSED",
                    sites,
                ),
                *(Decimal("60.00"), Decimal("1200.00"), Fraction(1), "EUR"),
            )
        ],
        [Place("Nord", "availability", f"shop-{at}", name, totals, ALMOST, "MISSED") for at in range(sites)],
        [
            Lost(7, "Nord", "shop-0", "down", NOVEMBER, None, 2 * H, "hardware", "provider", True, "the log says so"),
        ],
        [Upkeep("Nord", "A new switch", 2, NOVEMBER, END, "approved", "nora", "", "")],
        [Restored("Nord", "restoration mttr_h", Fraction(7, 3), Decimal(4), 1, "MET")],
    )


def test_a_workbook_holds_numbers_rounded_down_and_exact_milliseconds():
    book = load_workbook(BytesIO(xlsx_of(paper())))
    names = ["Summary", "Objectives", "Sites", "Outages", "Maintenance", "Restoration", "Credits"]
    assert book.sheetnames == names
    heads, *rows = book["Sites"].iter_rows(values_only=True)
    assert len(rows) == 3
    first = dict(zip(heads, rows[0], strict=True))
    assert (first["measured %"], first["floor %"], first["verdict"]) == (99.99, 99.3, "Missed")
    assert (first["scheduled_ms"], first["down_ms"]) == (720 * H, 2 * H)
    assert list(book["Credits"].values)[1] == ("Nord", "Availability", 1200, 100, 60, "EUR")
    assert list(book["Restoration"].values)[1][1:4] == ("Mean time to restore, hours", 2.33, 4)
    outage = dict(zip(*list(book["Outages"].values)[:2], strict=True))
    assert (outage["from"], outage["to"], outage["corrected"]) == (NOVEMBER.replace(tzinfo=None), None, True)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_no_cell_is_a_formula(name: str):
    found = paper(1, name)
    (row,) = csv.DictReader(StringIO(csv_of(found).decode("utf-8-sig"), newline=""))
    assert row["name"] == f"'{name}"
    cell = load_workbook(BytesIO(xlsx_of(found)))["Sites"]["D2"]
    assert cell.data_type == "s"


def test_json_rounds_half_to_even_at_four_places():
    found = json.loads(json_of(paper(1)))
    assert found["places"][0]["shares"] == {
        "measured": 99.999,
        "floor": 99.3017,
        "ceiling": 99.7207,
        "coverage": 99.581,
    }
    assert found["promises"][0]["credit"] == "60.00"
    assert found["lost"][0]["end"] is None
    assert found["restored"][0]["figure"] == 2.3333


def test_a_pdf_rounds_down_and_is_tagged():
    found = content_of(paper())
    assert found["promises"][0]["measured"] == "99.99 %"
    assert found["sentence"] == "1 of 2 promises were kept, 1 missed. Credits: 60.00 EUR."
    reader = PdfFileReader(BytesIO(pdf_of(paper())))
    assert reader.root["/MarkInfo"]["/Marked"]
    assert (reader.root["/Lang"], "/StructTreeRoot" in reader.root) == ("en-GB", True)
    assert reader.trailer["/Info"]["/Title"] == "Shops: November 2026"


def test_texts_of_people_are_never_markup():
    hostile = paper(1, "x")
    hostile = replace(hostile, upkeep=[replace(hostile.upkeep[0], title='#panic("x") $ * _ <a> \\ ]')])
    assert pdf_of(hostile).startswith(b"%PDF-")


def test_an_empty_report_is_a_page_that_says_so():
    empty = Paper(paper().head, [], [], [], [], [])
    assert content_of(empty)["sentence"] == "Nothing was to be measured in this time."
    assert pdf_of(empty).startswith(b"%PDF-")


def test_a_thousand_sites_take_seconds():
    began = time.process_time()
    pdf_of(paper(1000))
    assert time.process_time() - began < 5


# The signature ----------------------------------------------------------------------------------------------
@pytest.fixture
def signed(tmp_path: Path, settings: Any) -> Iterator[tuple[bytes, signing.ReportKeys]]:
    rows: dict[int, ReportFile] = {}

    def read(file_id: int) -> ReportToSign:
        content = bytes(rows[file_id].content or b"")
        digest = sha256(content[: rows[file_id].hole_begin] + content[rows[file_id].hole_end :]).digest()
        return ReportToSign("pdf", bytes(rows[file_id].attributes or b""), digest)

    with signer_of_reports(tmp_path, read) as socket:
        settings.SIGNER_SOCKET = socket
        keys = signing.report_keys()
        found = prepared(pdf_of(paper()), keys, datetime.now(UTC))
        row = rows[1] = ReportFile(kind="pdf", content=found.content, hole_begin=found.begin, hole_end=found.end)
        row.attributes, row.certificate, row.root = found.attributes, keys.pdf, keys.root
        signature = signing.sign_report(1).signature
        row.signature = enveloped(found.attributes, signature, certificate=keys.pdf, root=keys.root)
        yield joined(row), keys


def test_the_signature_verifies_by_the_root_and_covers_all_of_the_file(signed: Any):
    file, keys = signed
    root = x509.Certificate.load(pem.unarmor(keys.root.encode())[2])
    trusted = ValidationContext(trust_roots=[root], allow_fetching=False)

    def status(content: bytes, context: ValidationContext) -> Any:
        (signature,) = PdfFileReader(BytesIO(content)).embedded_signatures
        return validate_pdf_signature(signature, context)

    found = status(file, trusted)
    assert (found.bottom_line, found.trusted, found.intact, found.valid) == (True, True, True, True)
    assert found.coverage.name == "ENTIRE_FILE"
    assert not status(file, ValidationContext(trust_roots=[], allow_fetching=False)).bottom_line
    at = file.index(b"endstream") - 20
    changed = file[:at] + bytes([file[at] ^ 1]) + file[at + 1 :]
    assert not status(changed, trusted).intact


# From facts -------------------------------------------------------------------------------------------------
def test_a_provider_gets_its_own_side_of_a_contract(make_provider: Any, make_site: Any):
    nord, sued = make_provider("nord"), make_provider("sued")
    for provider, slug in ((nord, "north"), (sued, "south")):
        site = make_site(slug, provider)
        tenures(site, (provider, datetime(2020, 1, 1, tzinfo=UTC), None))
        states(site, "availability", (datetime(2025, 1, 1, tzinfo=UTC), "up"), (END - timedelta(hours=72), "down"))
    tiers = {"tiers": [{"below": "99.5", "credit": "10"}]}
    version = make_contract(*(segment(one, objectives=[objective(credits=tiers)]) for one in (nord, sued)))
    own = Scope("nord", providers=frozenset({nord.pk}), limits=(Limit(provider_id=nord.pk),))
    later = DECEMBER + timedelta(days=99)
    with scope(TEST):
        whole = paper_of(TEST, version.contract, NOVEMBER, DECEMBER, later, period="2026-11")
    assert [(one.slug, one.totals.down_ms) for one in whole.places] == [("north", 72 * H), ("south", 72 * H)]
    assert [(one.provider, one.credit, one.verdict) for one in whole.promises] == [
        ("Nord", Decimal("120.00"), "MISSED"),
        ("Sued", Decimal("120.00"), "MISSED"),
    ]
    with scope(own):
        mine = paper_of(own, version.contract, NOVEMBER, DECEMBER, later, period="2026-11")
    for content in (json_of(mine), csv_of(mine), json.dumps(content_of(mine)).encode()):
        assert b"north" in content.lower()
        assert b"south" not in content.lower()
        assert b"sued" not in content.lower()
