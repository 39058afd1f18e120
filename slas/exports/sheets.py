"""A report as a workbook (XLSX), as tables of text (CSV), and as JSON.

Numbers are numbers: percentages rounded down at two places beside exact milliseconds. A text that a spreadsheet would
take for a formula is written as text.
"""

import csv
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from io import BytesIO, StringIO
from typing import Any, Final

import xlsxwriter

from sites.csv_format import defuse
from slas.engine import Figures, Totals
from slas.exports.bundle import canonical
from slas.exports.tables import Table, counted_tables
from slas.exports.words import RESPONSE, RESTORED, VERDICTS, name_of
from slas.reporting.paper import Paper, Restored
from slas.reporting.saying import credited_of
from slas.rounding import percent_2, percent_4

_TOTALS: Final = ("scheduled_ms", "excluded_ms", "unknown_ms", "down_ms", "degraded_ms", "up_ms")
_SHARES: Final = ("measured", "floor", "ceiling", "coverage")


def tables_of(paper: Paper) -> list[Table]:
    """The tables of a report: name, columns, rows; moments are in UTC."""
    head = paper.head
    summary = [(field.name, getattr(head, field.name)) for field in fields(head)]
    objective = ("provider", "objective", "scope", "burden", "target %", *(f"{name} %" for name in _SHARES))
    promises = [
        [
            one.provider,
            name_of(one.measure),
            name_of(one.reach),
            one.burden,
            percent_2(one.target),
            *_shares(one.shares),
            VERDICTS[one.verdict],
            one.sites,
            *_totals(one.totals),
        ]
        for one in paper.promises
    ]
    places = [
        [
            one.provider,
            name_of(one.measure),
            one.slug,
            one.name,
            *_shares(one.shares),
            VERDICTS[one.verdict],
            *_totals(one.totals),
        ]
        for one in paper.places
    ]
    return [
        ("Summary", ("what", "value"), summary),
        ("Objectives", (*objective, "verdict", "sites", *_TOTALS), promises),
        (
            "Sites",
            ("provider", "objective", "site", "name", *(f"{name} %" for name in _SHARES), "verdict", *_TOTALS),
            places,
        ),
        (
            "Outages",
            (
                "number",
                "provider",
                "site",
                "kind",
                "from",
                "to",
                "counted_ms",
                "cause",
                "charged to",
                "corrected",
                "reason",
            ),
            [[getattr(one, field.name) for field in fields(one)] for one in paper.lost],
        ),
        (
            "Maintenance",
            ("provider", "title", "sites", "from", "to", "state", "asked by", "decided by", "reason"),
            [[getattr(one, field.name) for field in fields(one)] for one in paper.upkeep],
        ),
        (
            "Restoration",
            ("provider", "promise", "figure", "limit", "outages", "verdict"),
            [
                [one.provider, RESTORED[one.measure], _figure(one), one.limit, one.count, VERDICTS[one.verdict]]
                for one in paper.restored
            ],
        ),
        *counted_tables(paper),
        (
            "Credits",
            ("provider", "objective", "fee", "part of the period %", "credit", "currency"),
            [
                [one.provider, name_of(one.measure), one.fee, percent_2(one.part), one.credit, one.currency]
                for one in credited_of(paper)
            ],
        ),
    ]


def xlsx_of(paper: Paper) -> bytes:
    """The workbook, a sheet a table."""
    return book_of(f"{paper.head.contract}: {paper.head.period}", paper.head.as_of, tables_of(paper))


def csv_of(paper: Paper, table: str = "Sites") -> bytes:
    """One table as CSV, in UTF-8 with its mark, so that spreadsheets read it right. Raises KeyError."""
    return lines_of({found[0]: found for found in tables_of(paper)}[table])


def book_of(title: str, made_at: datetime, tables: Iterable[Table]) -> bytes:
    """Tables as a workbook, a sheet each."""
    file = BytesIO()
    options = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False, "in_memory": True}
    with xlsxwriter.Workbook(file, options) as book:
        book.set_properties({"title": title, "author": "Archipelago"})
        book.set_properties({"created": made_at.astimezone(UTC).replace(tzinfo=None)})
        bold = book.add_format({"bold": True, "bottom": 1})
        formats = {
            datetime: book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
            Decimal: book.add_format({"num_format": "0.00"}),
        }
        for name, columns, rows in tables:
            sheet = book.add_worksheet(name)
            sheet.freeze_panes(1, 0)
            sheet.write_row(0, 0, columns, bold)
            sheet.set_column(0, len(columns) - 1, 18)
            if rows:
                sheet.autofilter(0, 0, len(rows), len(columns) - 1)
            for y, row in enumerate(rows, 1):
                for x, value in enumerate(row):
                    _write(sheet, y, x, value, formats)
    return file.getvalue()


def lines_of(table: Table) -> bytes:
    """A table as CSV, in UTF-8 with its mark."""
    _, columns, rows = table
    file = StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return b"\xef\xbb\xbf" + file.getvalue().encode()


def json_of(paper: Paper) -> bytes:
    """All of it; shares as percentages rounded half to even at four places, money as texts, moments by RFC 3339."""
    return canonical(_json(paper))


# ------------------------------------------------------------------------------------------------------------
def _shares(shares: Figures) -> list[Decimal | None]:
    return [percent_2(getattr(shares, name)) for name in _SHARES]


def _totals(totals: Totals) -> list[int]:
    return [getattr(totals, name) for name in _TOTALS]


def _figure(one: Restored) -> Decimal | None:
    """In its unit; a share of answers in per cent."""
    if one.figure is None or one.measure == RESPONSE:
        return percent_2(one.figure)
    return percent_2(one.figure / 100)


def _write(sheet: Any, y: int, x: int, value: Any, formats: dict[type, Any]) -> None:
    if value is None:
        return
    if isinstance(value, datetime):
        sheet.write_datetime(y, x, value.astimezone(UTC).replace(tzinfo=None), formats[datetime])
    elif isinstance(value, bool):
        sheet.write_boolean(y, x, value)
    elif isinstance(value, int):
        sheet.write_number(y, x, value)
    elif isinstance(value, Decimal):
        sheet.write_number(y, x, value, formats[Decimal])
    else:
        sheet.write_string(y, x, str(value))


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return defuse(value) if isinstance(value, str) else "" if value is None else str(value)


def _four(share: Fraction) -> Decimal:
    return percent_4(share) or Decimal(0)


def _members(value: Any) -> dict[str, Any]:
    return {field.name: _json(getattr(value, field.name)) for field in fields(value)}


def _json(value: Any) -> Any:
    if isinstance(value, Restored) and value.measure != RESPONSE:  # hours or a number, not a share
        return {**_members(value), "figure": None if value.figure is None else float(_four(value.figure / 100))}
    if is_dataclass(value):
        return _members(value)
    if isinstance(value, datetime):
        return _cell(value)
    if isinstance(value, Fraction):
        return float(_four(value))
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, str | int | None):
        return value
    assert isinstance(value, Iterable)
    return [_json(one) for one in value]
