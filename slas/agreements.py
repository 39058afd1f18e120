"""A version of a contract as people write it: who, from when to when, what. Every fault at once. Pure.

{"zone": "Europe/Berlin", "labels": {...}, "regions": [...], "segments": [
    {"provider": "nordlicht", "begins": "2026-11-01T00:00", "ends": null, "gap_reason": "", "fee": "1200.00",
     "currency": "EUR", "rule_version": 1, ...terms}]}
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from slas.currencies import PLACES
from slas.faults import Fault, Reader
from slas.terms import Terms, terms_in

RULE_VERSION: Final = 1
MAX_SEGMENTS: Final = 200
_TERMS: Final = ("objectives", "calendar", "maintenance", "excluded_causes", "includes_link", "freezes")
_MOST_FEE: Final = Decimal(10) ** 12


@dataclass(frozen=True, slots=True)
class SegmentDraft:
    """`[begins, ends)` under one provider; `written` are the terms as somebody wrote them, to be stored."""

    provider_id: int
    begins: datetime
    ends: datetime | None
    gap_reason: str
    fee: Decimal
    currency: str
    rule_version: int
    terms: Terms
    written: Mapping[str, Any] = field(compare=False)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Which sites (all parts that are set must fit), and the segments in order of their begin."""

    zone: str
    labels: Mapping[str, str]
    regions: tuple[str, ...]
    segments: tuple[SegmentDraft, ...]


def read_agreement(value: object, providers: Mapping[str, int]) -> tuple[Agreement | None, list[Fault]]:
    """The version that was written, or None and every fault. `providers` are ids by slug that may be named."""
    faults: list[Fault] = []
    reader = Reader(value, "", faults)
    zone = reader.zone("zone")
    labels, regions = _labels(reader), _regions(reader)
    parts = reader.each("segments", most=MAX_SEGMENTS)
    if not parts:
        reader.fault("segments", "A contract has at least one segment: a provider, a begin and what is promised.")
    found = [(part, _segment(part, zone, providers)) for part in parts]
    reader.end()
    read = [(part, one) for part, one in found if one is not None]
    _check_order(read)
    if faults:
        return None, faults
    ordered = sorted((one for _, one in read), key=lambda one: (one.begins, one.provider_id))
    return Agreement(zone, labels, regions, tuple(ordered)), []


def _labels(reader: Reader) -> dict[str, str]:
    found = reader.take("labels") or {}
    if isinstance(found, Mapping) and len(found) <= 20:
        odd = [key for key, text in found.items() if not isinstance(key, str) or not isinstance(text, str)]
        if not odd:
            return dict(found)
    reader.fault("labels", "This is at most 20 labels with their values.")
    return {}


def _regions(reader: Reader) -> tuple[str, ...]:
    found = reader.take("regions") or []
    if isinstance(found, list | tuple) and len(found) <= 100 and all(_is_name(one) for one in found):
        return tuple(found)
    reader.fault("regions", "This is at most 100 names of regions.")
    return ()


def _is_name(one: object) -> bool:
    return isinstance(one, str) and 0 < len(one) <= 64 and one.isprintable()


def _segment(reader: Reader, zone: str, providers: Mapping[str, int]) -> SegmentDraft | None:
    """The segment; None where its provider or its time cannot be read."""
    slug = reader.take("provider")
    provider = providers.get(slug) if isinstance(slug, str) else None
    if provider is None:
        reader.fault("provider", "There is no such provider.")
    begins, ends = reader.moment("begins", zone), reader.moment("ends", zone)
    if begins is None and not any(fault.path == f"{reader.path}.begins" for fault in reader.faults):
        reader.fault("begins", "Say when it begins.")
    if begins is not None and ends is not None and ends <= begins:
        reader.fault("ends", "It ends before it begins.")
    gap_reason = reader.text("gap_reason")
    currency, fee = _fee(reader)
    version = reader.take("rule_version", RULE_VERSION)
    if version != RULE_VERSION or isinstance(version, bool):
        reader.fault("rule_version", f"There is rule version {RULE_VERSION}, and no other.")
    written = {name: reader.value[name] for name in _TERMS if name in reader.value}
    terms = terms_in(reader)
    reader.end()
    if provider is None or begins is None:
        return None
    return SegmentDraft(provider, begins, ends, gap_reason, fee, currency, RULE_VERSION, terms, written)


def _fee(reader: Reader) -> tuple[str, Decimal]:
    currency = reader.take("currency", "")
    fee = reader.number("fee", least=Decimal(0), most=_MOST_FEE, otherwise="0")
    if currency not in PLACES:
        reader.fault("currency", f"{str(currency)[:12]!r} is no currency: use its three letters, like EUR.")
        return "", fee
    exponent = fee.normalize().as_tuple().exponent
    if isinstance(exponent, int) and -exponent > PLACES[currency]:
        reader.fault("fee", f"An amount in {currency} has {PLACES[currency]} decimal places at most.")
    return str(currency), fee


def _check_order(read: list[tuple[Reader, SegmentDraft]]) -> None:
    """One provider's segments follow one another: none overlaps, and a gap has its reason."""
    for provider in sorted({one.provider_id for _, one in read}):
        own = sorted(((reader, one) for reader, one in read if one.provider_id == provider), key=lambda x: x[1].begins)
        until: datetime | None = None
        is_first = True
        for reader, one in own:
            if not is_first and (until is None or one.begins < until):
                reader.fault("begins", "It overlaps the segment before it, of the same provider.")
            elif not is_first and until is not None and one.begins > until and len(one.gap_reason) < 3:
                reader.fault("gap_reason", "Nothing is agreed between the segment before it and this one: say why.")
            elif one.gap_reason and (is_first or one.begins == until):
                reader.fault("gap_reason", "There is no gap before it to be explained.")
            is_first = False
            until = one.ends if until is None or one.ends is None else max(until, one.ends)
