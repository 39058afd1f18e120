"""What the API takes and gives about standards, rings and compliance."""

from datetime import datetime
from typing import Annotated, Any, Literal

from ninja import Field, Schema

from fleet.standards.models import Ring, RingStandard, SiteCompliance, Standard
from fleet.standards.present import kind_of, proven_at, words_of

Text = Annotated[str, Field(max_length=1 << 20)]
Reason = Annotated[str, Field(max_length=300)]
Name = Annotated[str, Field(max_length=64)]


# Standards --------------------------------------------------------------------------------------------------
class StandardOut(Schema):
    """A standard, without its content. `deadline_h` is how soon sites must run it, in hours, or null."""

    name: str
    state: Literal["draft", "published", "withdrawn"]
    sha256: str
    severity: str
    deadline_h: int | None
    extras: Literal["allow", "forbid"]
    notes: str
    made_by: str
    made_at: datetime
    published_by: str
    published_at: datetime | None


class StandardDetailOut(StandardOut):
    """The same with its exact content, and the architectures that it names images for (empty: the same for all)."""

    content: dict[str, Any]
    architectures: list[str]


class StandardPage(Schema):
    """A page of standards, newest first; `next` is the cursor of the next one, or null."""

    items: list[StandardOut]
    next: str | None


class _About(Schema):
    notes: Annotated[str, Field(max_length=20_000)] = ""
    severity: Literal["routine", "important", "security"] = "routine"
    deadline_h: Annotated[int, Field(ge=1, le=8760)] | None = None
    extras: Literal["allow", "forbid"] = "allow"


class StandardIn(_About):
    """A draft, of exactly one: `content` (as JSON), `text` (JSON or YAML, see `form`), `site` (what that runs now)."""

    name: Name
    content: dict[str, Any] | None = None
    text: Text | None = None
    form: Literal["json", "yaml"] = "yaml"
    site: Name | None = None


class StandardChange(Schema):
    """What to change of a draft; `expect` is the sha256 that it was read with."""

    expect: str
    content: dict[str, Any] | None = None
    notes: Annotated[str, Field(max_length=20_000)] | None = None
    severity: Literal["routine", "important", "security"] | None = None
    deadline_h: Annotated[int, Field(ge=1, le=8760)] | None = None
    extras: Literal["allow", "forbid"] | None = None


class ExpectIn(Schema):
    """The sha256 of the content that was looked at."""

    expect: str


class WhyIn(Schema):
    """Why, in 3 to 300 characters."""

    reason: Reason


class ChangeOut(Schema):
    """One thing that differs; `lines` are [what, before, after]."""

    kind: str
    name: str
    verb: Literal["added", "removed", "changed"]
    words: str
    lines: list[list[str]]


class DiffOut(Schema):
    """What `to` changes of `before`."""

    before: str
    to: str
    items: list[ChangeOut]


def standard_out(row: Standard) -> dict[str, Any]:
    """StandardOut of a row."""
    names = ("name", "state", "sha256", "severity", "deadline_h", "extras", "notes", "made_by", "made_at")
    return {name: getattr(row, name) for name in (*names, "published_by", "published_at")}


# Rings ------------------------------------------------------------------------------------------------------
class SelectorOut(Schema):
    """Which sites a ring holds: every part that is set must fit. `providers` are slugs."""

    labels: dict[str, str]
    regions: list[str]
    providers: list[str]


class RingOut(Schema):
    """A ring. `selector` is null for whoever does not see the whole fleet; `standard` is the name of what it has."""

    name: str
    slug: str
    position: int
    note: str
    selector: SelectorOut | None
    standard: str | None
    since: datetime | None


class RingPage(Schema):
    """Rings in the order in which they are asked; there is one page."""

    items: list[RingOut]
    next: str | None


class RingIn(Schema):
    """A ring; it comes last in the order."""

    name: Name
    slug: Name
    labels: dict[str, str] = {}
    regions: list[str] = []
    providers: list[str] = []
    note: Annotated[str, Field(max_length=500)] = ""


class RingChange(Schema):
    """What to change of a ring."""

    name: Name | None = None
    labels: dict[str, str] | None = None
    regions: list[str] | None = None
    providers: list[str] | None = None
    note: Annotated[str, Field(max_length=500)] | None = None


class OrderIn(Schema):
    """Slugs of all rings, in the order in which they are asked."""

    rings: Annotated[list[Name], Field(max_length=1000)]


class GiveIn(Schema):
    """The standard that a ring has from now on (null: none), and the one that it was seen to have."""

    standard: Name | None
    expect: Name | None
    reason: Reason


class OutcomeOut(Schema):
    """How the ring's sites would compare; `newly` are those in drift that are not now."""

    sites: int
    conform: int
    drift: int
    unknown: int
    newly: int


class SpanOut(Schema):
    """What a ring had over a span; `until` is null for what it has now."""

    standard: str | None
    since: datetime
    until: datetime | None
    set_by: str
    reason: str


class SpanPage(Schema):
    """Spans, newest first; there is one page of at most a hundred."""

    items: list[SpanOut]
    next: str | None


def ring_out(row: Ring, standing: RingStandard | None, slugs: dict[int, str], *, wide: bool) -> dict[str, Any]:
    """RingOut of a row; `slugs` are those of providers, by id."""
    selector = {
        "labels": row.labels,
        "regions": row.regions,
        "providers": [slugs[pk] for pk in row.providers if pk in slugs],
    }
    return {
        "name": row.name,
        "slug": row.slug,
        "position": row.position,
        "note": row.note if wide else "",
        "selector": selector if wide else None,
        "standard": standing.standard.name if standing and standing.standard else None,
        "since": standing.since if standing else None,
    }


def span_out(row: RingStandard, *, wide: bool) -> dict[str, Any]:
    """SpanOut of a row; who set it, and why, is for those who see the whole fleet."""
    name = row.standard.name if row.standard else None
    who, why = (row.set_by, row.reason) if wide else ("", "")
    return {"standard": name, "since": row.since, "until": row.until, "set_by": who, "reason": why}


# Compliance -------------------------------------------------------------------------------------------------
class CountsOut(Schema):
    """Active sites by state; `unknown` follow a standard and are out of reach, `none` follow none."""

    sites: int
    conform: int
    drift: int
    unknown: int
    none: int


class GroupOut(CountsOut):
    """The same for one provider, ring or standard, by its slug or name (null: without)."""

    name: str | None


class ComplianceOut(CountsOut):
    """The whole, and by provider, ring and standard."""

    by_provider: list[GroupOut]
    by_ring: list[GroupOut]
    by_standard: list[GroupOut]


class DifferenceOut(Schema):
    """One component that differs. `verb`: missing, other, stopped or unlisted; `since` is when that began."""

    kind: str
    name: str
    verb: Literal["missing", "other", "stopped", "unlisted"]
    want: dict[str, Any] | None
    have: dict[str, Any] | None
    words: str
    since: datetime | None


class SiteComplianceOut(Schema):
    """How a site compares. `proven_at` is its last report; `extras` are containers that nobody manages here."""

    site: str
    provider: str
    ring: str | None
    standard: str | None
    compliance: Literal["conform", "drift", "unknown", "none"]
    since: datetime
    proven_at: datetime | None
    cause: str
    cause_detail: str
    differences: list[DifferenceOut]
    extras: list[str]


class SiteCompliancePage(Schema):
    """A page of sites; `next` is the cursor of the next one, or null."""

    items: list[SiteComplianceOut]
    next: str | None


class DriftOut(Schema):
    """One difference, and how many sites have it."""

    kind: str
    name: str
    verb: Literal["missing", "other", "stopped", "unlisted"]
    want: dict[str, Any] | None
    have: dict[str, Any] | None
    words: str
    sites: int
    oldest: datetime | None


class DriftPage(Schema):
    """Differences, those of most sites first; there is one page."""

    items: list[DriftOut]
    next: str | None


class InUseOut(Schema):
    """One version of a component, and on how many active sites it was last reported."""

    kind: str
    name: str
    version: str | None
    digest: str | None
    sites: int


class SpreadPage(Schema):
    """Versions in use, by kind and name, the most used first; there is one page."""

    items: list[InUseOut]
    next: str | None


class HistoryOut(Schema):
    """Counts at moments `step_s` apart from `since` on, and the share of conforming ones (null: nobody followed)."""

    since: datetime
    step_s: int
    conform: list[int]
    drift: list[int]
    unknown: list[int]
    ratio: list[float | None]


def compliance_out(row: SiteCompliance) -> dict[str, Any]:
    """SiteComplianceOut of a row."""
    return {
        "site": row.site.slug,
        "provider": row.site.provider.slug,
        "ring": row.ring.slug if row.ring else None,
        "standard": row.standard.name if row.standard else None,
        "compliance": kind_of(row),
        "since": row.since,
        "proven_at": proven_at(row),
        "cause": row.cause,
        "cause_detail": row.cause_detail,
        "differences": [
            {**one, "words": words_of(one), "since": row.began.get(f"{one['kind']}/{one['name']}")}
            for one in row.differences
        ],
        "extras": row.extras,
    }
