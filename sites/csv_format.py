"""Sites as CSV: reading what people bring, with errors by line, and writing what spreadsheets may open safely."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError

from sites.models import Provider, Site
from sites.places import find_place

MAX_BYTES = 10 * 1024 * 1024
MAX_ROWS = 10_000
REQUIRED = ("slug", "name", "provider", "address")
OPTIONAL = (
    *("place", "country", "time_zone", "lat", "lon", "region", "ring", "labels", "poll_interval_s"),
    *("contacts", "notes", "life"),
)
COLUMNS = (*REQUIRED, *OPTIONAL)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class LineError:
    """What is wrong in a line (1 is the header) and column ("" for the whole line)."""

    line: int
    column: str
    message: str


@dataclass(slots=True)
class Preview:
    """What an import would do: rows ready for create_sites(), and errors. Nothing is imported while there are any."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    errors: list[LineError] = field(default_factory=list)


def defuse(cell: object) -> str:
    """A cell that no spreadsheet takes for a formula: such text gets a leading apostrophe; numbers stay."""
    if isinstance(cell, (int, float)):
        return str(cell)
    text = str(cell)
    return "'" + text if text.startswith(_FORMULA) else text


def _undefuse(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def write_sites(sites: Iterable[Site]) -> Iterator[str]:
    """Lines of CSV, header first, in COLUMNS and the present state; what comes back in by read_sites()."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow([*COLUMNS, "state", "reachability", "since"])
    for site in sites:
        state = getattr(site, "state", None)
        labels = ";".join(f"{key}={value}" for key, value in sorted(site.labels.items()))
        own = {"provider": site.provider.slug, "labels": labels}
        cells = [own.get(name, getattr(site, name)) for name in COLUMNS]
        now = [state.shown, state.reachability, state.shown_since.isoformat()] if state else ["", "", ""]
        writer.writerow([defuse(cell) for cell in (*cells, *now)])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    if buffer.tell():
        yield buffer.getvalue()


def read_sites(data: bytes, *, providers: Mapping[str, Provider], taken: Iterable[str]) -> Preview:
    """Read a file of sites. `providers` by slug are those that may be named; `taken` are slugs in use.

    Takes UTF-8 with or without a byte-order mark, any line ends, comma or semicolon. Never raises for content.
    """
    preview = Preview()
    text = _decode(data, preview)
    if text is None:
        return preview
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    try:
        _read_lines(reader, preview, providers, set(taken))
    except csv.Error as error:
        preview.errors.append(LineError(reader.line_num, "", f"this is no CSV: {error}"))
    return preview


def _decode(data: bytes, preview: Preview) -> str | None:
    problem = ""
    if len(data) > MAX_BYTES:
        problem = f"the file is larger than {MAX_BYTES // 1024 // 1024} MB"
    elif b"\x00" in data:
        problem = "the file holds NUL characters: it is no text"
    else:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            problem = f"the file is not UTF-8 (byte {error.start}); save it as “CSV UTF-8”"
    preview.errors.append(LineError(1, "", problem))
    return None


def _delimiter(text: str) -> str:
    header = text.partition("\n")[0]
    return ";" if header.count(";") > header.count(",") else ","


def _read_lines(reader: Any, preview: Preview, providers: Mapping[str, Provider], taken: set[str]) -> None:
    header = [name.strip().lower() for name in next(reader, [])]
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        preview.errors.append(LineError(1, "", f"missing columns: {', '.join(missing)}"))
        return
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        preview.errors.append(LineError(1, "", f"columns that occur twice: {', '.join(twice)}"))
        return
    seen: dict[str, int] = {}
    for cells in reader:
        line = reader.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if len(preview.rows) >= MAX_ROWS:
            preview.errors.append(LineError(line, "", f"more than {MAX_ROWS:,} rows; split the file"))
            return
        if len(cells) > len(header):
            preview.errors.append(LineError(line, "", "more cells than the header has columns"))
            continue
        row = {name: _undefuse(cell.strip()) for name, cell in zip(header, cells, strict=False) if name in COLUMNS}
        _read_row(row, line, preview, providers, taken, seen)


def _read_row(
    row: dict[str, str],
    line: int,
    preview: Preview,
    providers: Mapping[str, Provider],
    taken: set[str],
    seen: dict[str, int],
) -> None:
    errors: dict[str, str] = {}
    values = _values(row, providers, errors)
    slug = row.get("slug", "")
    if slug in taken:
        errors.setdefault("slug", "a site with this slug exists already")
    elif slug in seen:
        errors.setdefault("slug", f"line {seen[slug]} has this slug too")
    seen.setdefault(slug, line)
    if not errors:
        life = values.pop("life")
        try:
            Site(**values).clean_fields(exclude=["provider"])
        except ValidationError as error:
            errors |= {name: " ".join(messages) for name, messages in error.message_dict.items()}
        values["life"] = life
    preview.errors += [LineError(line, column, message) for column, message in errors.items()]
    preview.rows.append(values)
    preview.lines.append(line)


def _values(row: dict[str, str], providers: Mapping[str, Provider], errors: dict[str, str]) -> dict[str, Any]:
    """Typed values of a row; what is wrong goes into `errors` by column."""
    values: dict[str, Any] = {name: row[name] for name in REQUIRED if name != "provider"}
    errors |= {name: "may not be empty" for name in REQUIRED if not row.get(name)}
    provider = providers.get(row.get("provider", ""))
    if provider is None:
        errors.setdefault("provider", "there is no such provider")
    else:
        values["provider_id"] = provider.pk
    for name in ("place", "region", "contacts", "notes"):
        values[name] = row.get(name, "")
    values["country"] = row.get("country", "").upper()
    values["ring"] = row.get("ring") or "stable"
    values["life"] = row.get("life") or "planned"
    if values["life"] not in {"planned", "active"}:
        errors["life"] = "planned or active"
    values["labels"] = _labels(row.get("labels", ""), errors)
    values["poll_interval_s"] = _number(row.get("poll_interval_s") or "30", int, "poll_interval_s", errors)
    _locate(row, values, errors)
    return values


def _locate(row: dict[str, str], values: dict[str, Any], errors: dict[str, str]) -> None:
    """Coordinates and time zone: given, or those of the place."""
    place = find_place(values["place"], values["country"]) if values["place"] else None
    if row.get("lat") or row.get("lon"):
        values["lat"] = _number(row.get("lat", ""), float, "lat", errors)
        values["lon"] = _number(row.get("lon", ""), float, "lon", errors)
    elif place is not None:
        values["lat"], values["lon"] = place.lat, place.lon
    else:
        errors["lat"] = "no coordinates, and the place is not known"
    values["time_zone"] = row.get("time_zone") or (place.time_zone if place else "UTC")
    if place is not None and not values["country"]:
        values["country"] = place.country


def _number(text: str, kind: type[int] | type[float], column: str, errors: dict[str, str]) -> float:
    try:
        value = kind(text.replace(",", ".") if kind is float else text)
    except ValueError:
        errors[column] = "not a number" if kind is float else "not a whole number"
        return 0
    if value != value or value in {float("inf"), float("-inf")}:
        errors[column] = "not a number"
        return 0
    return value


def _labels(text: str, errors: dict[str, str]) -> dict[str, str]:
    """`key=value;key=value`."""
    labels: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, separator, value = part.partition("=")
        if not separator:
            errors["labels"] = f"{part!r} is not key=value"
            continue
        labels[key.strip()] = value.strip()
    return labels
