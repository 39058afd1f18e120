"""Standards and compliance in words, for pages, CSV and the API."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from fleet.standards.models import SiteCompliance
from fleet.standards.states import Cause
from sites.csv_format import defuse

LABELS = {"conform": "Conform", "drift": "Drift", "unknown": "Unknown", "none": "No standard"}
# The look of a state of compliance: that of the state of a site that asks for as much.
LOOKS = {"conform": "up", "drift": "degraded", "unknown": "unreachable", "none": "unknown"}
KINDS = {"kernel": "kernel", "os": "package", "agent": "agent", "workload": "workload", "config": "configuration of"}
CSV_COLUMNS = (
    *("site", "name", "provider", "region", "ring", "standard", "compliance", "since", "proven_at", "cause"),
    *("cause_detail", "differences", "extras"),
)


def kind_of(row: SiteCompliance) -> str:
    """`conform`, `drift`, `unknown`, or `none` for a site that follows nothing."""
    return row.state if row.standard_id is not None else "none"


def proven_at(row: SiteCompliance) -> datetime | None:
    """When the site last reported what it runs: while it is reachable, its last good report."""
    state = getattr(row.site, "state", None)
    return state.last_good_at if state is not None and state.last_good_at else row.proven_at


def version_of(value: Mapping[str, Any] | None) -> str:
    """What people call it: the version, else the beginning of the digest, else the state it is in."""
    if not value:
        return ""
    return value.get("version") or short(value.get("digest")) or value.get("state") or ""


def short(digest: str | None) -> str:
    """The beginning of a digest, enough to tell it from others."""
    return digest[:19] + "…" if digest and digest.startswith("sha256:") else digest or ""


def called(kind: str, name: str) -> str:
    """A component as people say it: `kernel`, `package openssl`."""
    if kind in ("kernel", "agent"):
        return kind
    return f"{KINDS.get(kind, kind)} {name}"


def words_of(one: Mapping[str, Any]) -> str:
    """A difference in one line: what is there, and what should be."""
    return f"{called(one['kind'], one['name'])}: {_says(one)}"


def _says(one: Mapping[str, Any]) -> str:
    have, want = version_of(one.get("have")), version_of(one.get("want"))
    if one["verb"] == "missing":
        return f"not there; {want or 'it'} is wanted"
    if one["verb"] == "stopped":
        return f"{have or 'not there'}; it should be running"
    if one["verb"] == "unlisted":
        return f"{have or 'there'}; the standard does not name it"
    if have == want:
        have, want = (f"{version_of(side)} {short((side or {}).get('digest'))}" for side in (one["have"], one["want"]))
    return f"{have or 'unknown'}; {want} is wanted"


def difference_rows(row: SiteCompliance) -> list[dict[str, Any]]:
    """The differences of a site for a table: what, here, wanted, since when."""
    return [
        {
            "what": called(one["kind"], one["name"]),
            "verb": one["verb"],
            "here": version_of(one.get("have")) or "—",
            "here_digest": (one.get("have") or {}).get("digest") or "",
            "wanted": version_of(one.get("want")) or "not there",
            "wanted_digest": (one.get("want") or {}).get("digest") or "",
            "words": words_of(one),
            "since": _moment(row.began.get(f"{one['kind']}/{one['name']}")),
        }
        for one in row.differences
    ]


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def cause_of(row: SiteCompliance) -> str:
    """Why it drifts, as far as is known, in words."""
    if not row.cause:
        return ""
    label = str(Cause(row.cause).label)
    return f"{label}: {row.cause_detail}" if row.cause_detail else label


def component_rows(row: SiteCompliance) -> list[dict[str, Any]]:
    """Every component of the standard beside what the site has: equal ones too, and those that differ first."""
    if row.standard is None:
        return []
    wrong = {(one["kind"], one["name"]) for one in row.differences}
    equal = [
        {"what": called(one["kind"], one["name"]), "wanted": one["version"] or short(_only(one["digests"]))}
        for one in row.standard.components
        if (one["kind"], one["name"]) not in wrong
    ]
    return sorted(equal, key=lambda one: one["what"])


def _only(digests: Mapping[str, str]) -> str:
    return next(iter(digests.values()), "")


def csv_lines(rows: Iterable[SiteCompliance]) -> Iterator[str]:
    """Lines of CSV, header first, in CSV_COLUMNS; no cell is a formula to a spreadsheet."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        proof = proven_at(row)
        cells = (
            *(row.site.slug, row.site.name, row.site.provider.name, row.site.region),
            *(row.ring.name if row.ring else "", row.standard.name if row.standard else "", kind_of(row)),
            *(row.since.isoformat(), proof.isoformat() if proof else "", row.cause, row.cause_detail),
            *("; ".join(words_of(one) for one in row.differences), "; ".join(row.extras)),
        )
        writer.writerow([defuse(cell) for cell in cells])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    if buffer.tell():
        yield buffer.getvalue()
