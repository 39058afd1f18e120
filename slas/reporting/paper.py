"""What a report says, as plain rows: made once, kept as it is, laid out by pages and by each kind of file. Pure.

Shares stay exact here; pages, PDF, XLSX and CSV round down at two places, JSON half to even at four.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from typing import Any, Final

import msgspec

from slas.engine import Figures, Totals
from slas.reporting.counted import Cap, Delay, Latency, Offered, Synced


@dataclass(frozen=True, slots=True)
class Head:
    """Which report it is. `key` is the SHA-256 of the key that signs its bundle; empty where none does."""

    contract: str
    period: str
    begin: datetime
    end: datetime
    zone: str
    as_of: datetime
    revision: str
    version: int
    key: str = ""


@dataclass(frozen=True, slots=True)
class Promise:
    """An objective under a segment: what was promised, found and settled; `credit` in `currency`."""

    provider: str
    measure: str
    reach: str
    burden: str
    target: Fraction
    totals: Totals
    shares: Figures
    verdict: str | None
    sites: int
    credit: Decimal
    fee: Decimal
    part: Fraction
    currency: str
    without: tuple["Without", ...] = ()


@dataclass(frozen=True, slots=True)
class Without:
    """What the figures would be if one kind of exclusion were none: `maintenance`, `causes`, `blind` or `all`."""

    kind: str
    excluded_ms: int
    shares: Figures


@dataclass(frozen=True, slots=True)
class Place:
    """A site under an objective."""

    provider: str
    measure: str
    slug: str
    name: str
    totals: Totals
    shares: Figures
    verdict: str | None

    @property
    def rank(self) -> float | None:
        """To sort by: the worst first."""
        return None if self.shares.floor is None else float(self.shares.floor)


@dataclass(frozen=True, slots=True)
class Lost:
    """An outage; `end` is None while it lasts."""

    number: int
    provider: str
    slug: str
    kind: str
    begin: datetime
    end: datetime | None
    lasted_ms: int
    cause: str
    charged_to: str
    is_corrected: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Upkeep:
    """A maintenance window."""

    provider: str
    title: str
    sites: int
    begin: datetime
    end: datetime
    state: str
    asked_by: str
    decided_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Restored:
    """An objective of restoration or response; `figure` and `limit` in its own unit. `target`, fee and credit are of
    response alone: the share of outages that are answered within the limit."""

    provider: str
    measure: str
    figure: Fraction | None
    limit: Decimal | None
    count: int
    verdict: str | None
    target: Fraction | None = None
    credit: Decimal = Decimal(0)
    fee: Decimal = Decimal(0)
    part: Fraction = Fraction(1)
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Decided:
    """What a manager decided where the facts prove neither; `figure` is a share."""

    provider: str
    measure: str
    figure: Fraction
    by: str
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Paper:
    """All of a report."""

    head: Head
    promises: Sequence[Promise]
    places: Sequence[Place]
    lost: Sequence[Lost]
    upkeep: Sequence[Upkeep]
    restored: Sequence[Restored]
    decided: tuple[Decided, ...] = ()
    synced: tuple[Synced, ...] = ()
    offered: tuple[Offered, ...] = ()
    latencies: tuple[Latency, ...] = ()
    delays: tuple[Delay, ...] = ()
    caps: tuple[Cap, ...] = ()


Line = Place | Offered | Delay
# What a paper says site by site: kept line by line, since there may be tens of thousands.
LINES: Final[Mapping[str, type[Line]]] = {"places": Place, "offered": Offered, "delays": Delay}


def dump(paper: Paper) -> dict[str, Any]:
    """The paper as JSON values, to be kept: shares as `715/720`, money as text, moments by RFC 3339."""
    found = msgspec.to_builtins(paper, builtin_types=(), enc_hook=_written, order="deterministic")
    assert isinstance(found, dict)
    return found


def load(data: Mapping[str, Any]) -> Paper:
    """What dump() wrote. Raises msgspec.ValidationError."""
    return msgspec.convert(data, Paper, dec_hook=_read)


def load_line(kind: str, data: Mapping[str, Any]) -> Line:
    """A line of the list that `kind` names in LINES. Raises msgspec.ValidationError."""
    return msgspec.convert(data, LINES[kind], dec_hook=_read)


def with_lines(paper: Paper, lines: Mapping[str, Sequence[Line]]) -> Paper:
    """The paper with its lists, by their names."""
    found: dict[str, Any] = {kind: tuple(lines.get(kind, ())) for kind in LINES}
    return replace(paper, **found)


def digest(data: Mapping[str, Any]) -> str:
    """The SHA-256 of what dump() wrote, in JSON with sorted names."""
    return sha256(msgspec.json.encode(data, order="deterministic")).hexdigest()


def says_the_same(one: Paper, other: Paper) -> bool:
    """Whether they differ in nothing but when they were made, and how long has gone on what still goes on."""
    return _standing(replace(one, head=other.head)) == _standing(other)


def parts_of(paper: Paper, providers: Iterable[str]) -> dict[str, Paper]:
    """The part of each provider, by name: what it may see of the report."""
    return {
        name: Paper(paper.head, *(tuple(one for one in _list(paper, field) if one.provider == name) for field in LISTS))
        for name in providers
    }


def joined(parts: Sequence[Paper]) -> Paper:
    """Parts of one revision as one paper. There is at least one."""
    found: dict[str, Any] = {field: tuple(one for part in parts for one in _list(part, field)) for field in LISTS}
    found["places"] = tuple(sorted(found["places"], key=worst_first))
    found["lost"] = tuple(sorted(found["lost"], key=lambda one: (one.begin, one.number)))
    found["upkeep"] = tuple(sorted(found["upkeep"], key=lambda one: one.begin))
    for kind in ("offered", "delays"):
        found[kind] = tuple(sorted(found[kind], key=by_rank))
    return Paper(parts[0].head, **found)


def by_rank(line: Line) -> tuple[float, str]:
    """To sort lines of one kind by: the worst first; those without a figure stand last."""
    return math.inf if line.rank is None else line.rank, line.slug


def worst_first(place: Place) -> tuple[str, Fraction, str]:
    """To sort sites by; those of which nothing was to be measured stand last."""
    return place.measure, Fraction(2) if place.shares.floor is None else place.shares.floor, place.slug


# ------------------------------------------------------------------------------------------------------------
LISTS: Final = tuple(field.name for field in fields(Paper) if field.name != "head")


def _list(paper: Paper, field: str) -> Sequence[Any]:
    found: Sequence[Any] = getattr(paper, field)
    return found


def _standing(paper: Paper) -> Paper:
    """Lists as tuples, and without the durations of offers that go on: they differ with each look."""
    open_: dict[str, Any] = dict.fromkeys(("freeze_ms", "operator_ms", "network_ms", "provider_ms"), 0)
    offered = tuple(
        one
        if one.proven is not None
        else replace(one, until=one.published, spans=(), elapsed_ms=0, charged_ms=0, **open_)
        for one in sorted(paper.offered, key=lambda one: (one.slug, one.standard, one.eligible))
    )
    going_on = {one.provider for one in paper.offered if one.proven is None}
    synced = tuple(
        replace(one, charged_ms=(), elapsed_ms=(), **open_) if one.provider in going_on else one for one in paper.synced
    )
    lists: dict[str, Any] = {field: tuple(_list(paper, field)) for field in LISTS}
    return replace(paper, **lists | {"offered": offered, "synced": synced})


def _written(value: Any) -> str:
    if isinstance(value, Fraction):
        return str(value)
    raise NotImplementedError(type(value))  # as msgspec wants it


def _read(kind: type, value: Any) -> Any:
    if kind is Fraction:
        return Fraction(value)
    raise NotImplementedError(kind)


# Before several threads meet them, which msgspec does not outlive (agent/protocol/kinds.py says why).
for _kind in (Paper, *LINES.values()):
    msgspec.json.Decoder(_kind, dec_hook=_read)
