"""Sites as CSV: every kind of bad file says what is wrong and where; what goes out comes back in."""

import csv
import io
from typing import Any

import pytest

from sites.csv_format import COLUMNS, MAX_BYTES, MAX_ROWS, Preview, defuse, read_sites, write_sites
from sites.models import Provider, Site

NORD = Provider(id=7, slug="nordgrid", name="Nordgrid")
HEADER = "slug,name,provider,address,place,lat,lon"
GOOD = "oslo-1,Oslo Plant,nordgrid,10.0.0.1:9100,Oslo,59.91,10.75"


def read(text: str | bytes, *, taken: tuple[str, ...] = ()) -> Preview:
    data = text if isinstance(text, bytes) else text.encode()
    return read_sites(data, providers={"nordgrid": NORD}, taken=taken)


def problems(text: str | bytes, **options: Any) -> list[tuple[int, str, str]]:
    return [(error.line, error.column, error.message) for error in read(text, **options).errors]


def test_good_row() -> None:
    preview = read(f"{HEADER}\n{GOOD}\n")
    assert preview.errors == []
    (row,) = preview.rows
    assert (row["slug"], row["provider_id"], row["lat"], row["lon"]) == ("oslo-1", 7, 59.91, 10.75)
    assert (row["country"], row["time_zone"], row["life"], row["poll_interval_s"]) == (
        "NO",
        "Europe/Oslo",
        "planned",
        30,
    )


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks(ends: str, mark: str) -> None:
    preview = read(mark + ends.join([HEADER, GOOD, ""]))
    assert (len(preview.rows), preview.errors) == (1, [])


def test_semicolons_as_spreadsheets_write_them() -> None:
    assert read(f"{HEADER}\n{GOOD}".replace(",", ";")).errors == []


def test_place_gives_coordinates_where_there_are_none() -> None:
    (row,) = read("slug,name,provider,address,place,country\na,A,nordgrid,h:1,Munich,DE\n").rows
    assert (round(row["lat"]), round(row["lon"]), row["time_zone"]) == (48, 12, "Europe/Berlin")


def test_missing_columns() -> None:
    assert problems("slug,name\na,A\n") == [(1, "", "missing columns: provider, address")]
    assert problems("") == [(1, "", "missing columns: slug, name, provider, address")]


def test_columns_that_occur_twice() -> None:
    assert problems(f"{HEADER},slug\n{GOOD},x\n") == [(1, "", "columns that occur twice: slug")]


@pytest.mark.parametrize(
    ("row", "column", "message"),
    [
        ("Oslo 1,O,nordgrid,h:1,Oslo,1,1", "slug", "Lower-case letters and digits, joined by single hyphens."),
        (",O,nordgrid,h:1,Oslo,1,1", "slug", "may not be empty"),
        ("a,O,foreign,h:1,Oslo,1,1", "provider", "there is no such provider"),
        ("a,O,nordgrid,nowhere,Oslo,1,1", "address", "an address is a host, a colon and a port"),
        ("a,O,nordgrid,h:99999,Oslo,1,1", "address", "a port is from 1 to 65535"),
        ("a,O,nordgrid,h:1,Oslo,91,1", "lat", "less than or equal to 90"),
        ("a,O,nordgrid,h:1,Oslo,1,-181", "lon", "greater than or equal to -180"),
        ("a,O,nordgrid,h:1,Oslo,nan,1", "lat", "not a number"),
        ("a,O,nordgrid,h:1,Oslo,1e999,1", "lat", "not a number"),
        ("a,O,nordgrid,h:1,Oslo,north,1", "lat", "not a number"),
        ("a,O,nordgrid,h:1,Nowhereville,,", "lat", "no coordinates, and the place is not known"),
        ("a,O\x07,nordgrid,h:1,Oslo,1,1", "name", "No control characters."),
        ("taken,O,nordgrid,h:1,Oslo,1,1", "slug", "a site with this slug exists already"),
        ("a,O,nordgrid,h:1,Oslo,1,1,surplus", "", "more cells than the header has columns"),
    ],
)
def test_bad_cells_name_line_and_column(row: str, column: str, message: str) -> None:
    found = problems(f"{HEADER}\n{GOOD}\n{row}\n", taken=("taken",))
    assert [(line, where) for line, where, _ in found] == [(3, column)]
    assert message in found[0][2]


def test_slug_twice_in_one_file() -> None:
    assert problems(f"{HEADER}\n{GOOD}\n{GOOD}\n") == [(3, "slug", "line 2 has this slug too")]


def test_lines_are_those_of_the_file_when_cells_hold_line_ends() -> None:
    text = f'{HEADER},notes\n{GOOD},"one\ntwo"\nbad slug,B,nordgrid,h:1,Oslo,1,1,\n'
    assert [line for line, _, _ in problems(text)] == [4]


def test_too_large_too_long_not_text() -> None:
    assert problems(b"x" * (MAX_BYTES + 1)) == [(1, "", "the file is larger than 10 MB")]
    rows = "".join(f"s-{n},S,nordgrid,h:1,Oslo,1,1\n" for n in range(MAX_ROWS + 1))
    assert problems(f"{HEADER}\n{rows}") == [(MAX_ROWS + 2, "", "more than 10,000 rows; split the file")]
    assert problems(b"\xff\xfe\x00")[0][2] == "the file holds NUL characters: it is no text"
    assert "not UTF-8" in problems("slug,ä".encode("latin-1"))[0][2]
    assert "this is no CSV" in problems(f'{HEADER}\n"never closed\n')[0][2]


def test_ten_thousand_rows_within_ten_megabytes() -> None:
    rows = "".join(f"s-{n},S,nordgrid,h:1,Oslo,1,1\n" for n in range(MAX_ROWS))
    preview = read(f"{HEADER}\n{rows}")
    assert (len(preview.rows), preview.errors) == (MAX_ROWS, [])


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_formula_cells_are_defused(cell: str) -> None:
    assert defuse(cell) == "'" + cell


def test_numbers_and_plain_text_stay() -> None:
    assert (defuse(-74.006), defuse("Oslo"), defuse("it's")) == ("-74.006", "Oslo", "it's")


def test_export_comes_back_in_as_it_was() -> None:
    site = Site(
        slug="oslo-1",
        name='=HYPERLINK("http://x")',
        provider=NORD,
        address="10.0.0.1:9100",
        place="Oslo",
        country="NO",
        time_zone="Europe/Oslo",
        lat=-33.5,
        lon=-74.006,
        region="Nordics",
        labels={"kind": "plant", "line": "2"},
        notes="two\nlines; and, commas",
    )
    text = "".join(write_sites([site]))
    cells = next(iter(csv.DictReader(io.StringIO(text))))
    assert cells["name"].startswith("'=")
    preview = read(text)
    assert preview.errors == []
    (row,) = preview.rows
    for column in (*COLUMNS[:2], "address", "place", "country", "time_zone", "lat", "lon", "region", "labels", "notes"):
        assert row[column] == getattr(site, column), column
