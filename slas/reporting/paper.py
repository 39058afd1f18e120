"""What a report says, as plain rows: made once, kept as it is, laid out by pages and by each kind of file. Pure.

Shares stay exact here; pages, PDF, XLSX and CSV round down at two places, JSON half to even at four.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from typing import Any

import msgspec

from slas.engine import Figures, Totals


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
    """An objective of restoration or response; `figure` and `limit` in its own unit."""

    provider: str
    measure: str
    figure: Fraction | None
    limit: Decimal | None
    count: int
    verdict: str | None


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


def dump(paper: Paper) -> dict[str, Any]:
    """The paper as JSON values, to be kept: shares as `715/720`, money as text, moments by RFC 3339."""
    found = msgspec.to_builtins(paper, builtin_types=(), enc_hook=_written, order="deterministic")
    assert isinstance(found, dict)
    return found


def load(data: Mapping[str, Any]) -> Paper:
    """What dump() wrote. Raises msgspec.ValidationError."""
    return msgspec.convert(data, Paper, dec_hook=_read)


def digest(data: Mapping[str, Any]) -> str:
    """The SHA-256 of what dump() wrote, in JSON with sorted names."""
    return sha256(msgspec.json.encode(data, order="deterministic")).hexdigest()


def says_the_same(one: Paper, other: Paper) -> bool:
    """Whether they differ in nothing but when they were made."""
    return replace(one, head=other.head) == replace(other, head=other.head)


def parts_of(paper: Paper, providers: Iterable[str]) -> dict[str, Paper]:
    """The part of each provider, by name: what it may see of the report."""
    return {
        name: Paper(
            paper.head,
            [one for one in paper.promises if one.provider == name],
            [one for one in paper.places if one.provider == name],
            [one for one in paper.lost if one.provider == name],
            [one for one in paper.upkeep if one.provider == name],
            [one for one in paper.restored if one.provider == name],
            tuple(one for one in paper.decided if one.provider == name),
        )
        for name in providers
    }


def joined(parts: Sequence[Paper]) -> Paper:
    """Parts of one revision as one paper. There is at least one."""
    return Paper(
        parts[0].head,
        [one for part in parts for one in part.promises],
        sorted((one for part in parts for one in part.places), key=worst_first),
        sorted((one for part in parts for one in part.lost), key=lambda one: (one.begin, one.number)),
        sorted((one for part in parts for one in part.upkeep), key=lambda one: one.begin),
        [one for part in parts for one in part.restored],
        tuple(one for part in parts for one in part.decided),
    )


def worst_first(place: Place) -> tuple[str, Fraction, str]:
    """To sort sites by; those of which nothing was to be measured stand last."""
    return place.measure, Fraction(2) if place.shares.floor is None else place.shares.floor, place.slug


# ------------------------------------------------------------------------------------------------------------
def _written(value: Any) -> str:
    if isinstance(value, Fraction):
        return str(value)
    raise NotImplementedError(type(value))  # as msgspec wants it


def _read(kind: type, value: Any) -> Any:
    if kind is Fraction:
        return Fraction(value)
    raise NotImplementedError(kind)
