"""What differs between two revisions of a report, in milliseconds by class and site, and what brought it. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from slas.engine import Totals
from slas.reporting.paper import Lost, Paper, Place, Promise, Upkeep
from slas.rounding import percent_4

CLASSES: Final = ("scheduled", "excluded", "unknown", "down", "degraded", "up")


@dataclass(frozen=True, slots=True)
class Change:
    """An objective whose figures or verdict differ: milliseconds gained by class, and what they were and are."""

    provider: str
    measure: str
    ms: Mapping[str, int]
    floor: tuple[str | None, str | None]
    ceiling: tuple[str | None, str | None]
    verdict: tuple[str | None, str | None]
    credit: tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class SiteChange:
    """A site that has other figures than before: milliseconds gained by class."""

    measure: str
    slug: str
    ms: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Difference:
    """All that differs; `causes` are sentences, the most telling first."""

    causes: Sequence[str]
    promises: Sequence[Change]
    sites: Sequence[SiteChange]

    def as_json(self) -> dict[str, Any]:
        """To be kept and shown."""
        return asdict(self)


def difference(before: Paper, after: Paper) -> Difference:
    """What the newer paper says otherwise."""
    old, new = _numbered(before.promises), _numbered(after.promises)
    promises = [_change(old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)]
    sites = _sites(before.places, after.places)
    return Difference(_causes(before, after, {one.slug for one in sites}), promises, sites)


# ------------------------------------------------------------------------------------------------------------
def _numbered(promises: Iterable[Promise]) -> dict[tuple[str, str, int], Promise]:
    """By provider and measure; the second segment of the same in a period is number 1."""
    found: dict[tuple[str, str, int], Promise] = {}
    for one in promises:
        number = sum(key[:2] == (one.provider, one.measure) for key in found)
        found[one.provider, one.measure, number] = one
    return found


def _change(old: Promise | None, new: Promise | None) -> Change:
    some = new or old
    assert some is not None
    pair = (old, new)

    def share(name: str) -> tuple[str | None, str | None]:
        before, after = (None if one is None else percent_4(getattr(one.shares, name)) for one in pair)
        return (None if before is None else f"{before:f}", None if after is None else f"{after:f}")

    return Change(
        some.provider,
        some.measure,
        _gained(old.totals if old else Totals(), new.totals if new else Totals()),
        share("floor"),
        share("ceiling"),
        (old.verdict if old else None, new.verdict if new else None),
        (f"{old.credit:f} {old.currency}" if old else None, f"{new.credit:f} {new.currency}" if new else None),
    )


def _gained(old: Totals, new: Totals) -> dict[str, int]:
    found = {name: getattr(new, f"{name}_ms") - getattr(old, f"{name}_ms") for name in CLASSES}
    return {name: ms for name, ms in found.items() if ms}


def _sites(before: Iterable[Place], after: Iterable[Place]) -> list[SiteChange]:
    old, new = _by_site(before), _by_site(after)
    found = [
        SiteChange(measure, slug, _gained(old.get((measure, slug), Totals()), new.get((measure, slug), Totals())))
        for measure, slug in sorted(old.keys() | new.keys())
    ]
    return [one for one in found if one.ms]


def _by_site(places: Iterable[Place]) -> dict[tuple[str, str], Totals]:
    found: dict[tuple[str, str], Totals] = {}
    for one in places:
        key = (one.measure, one.slug)
        found[key] = found.get(key, Totals()) + one.totals
    return found


def _causes(before: Paper, after: Paper, sites: set[str]) -> list[str]:
    found: list[str] = []
    if after.head.version != before.head.version:
        found.append(f"Version {after.head.version} of the contract counts in place of {before.head.version}.")
    known = {(one.provider, one.measure, one.at) for one in before.decided}
    found += [
        f"A decision on {one.measure.replace('_', ' ')}: {one.reason}"
        for one in after.decided
        if (one.provider, one.measure, one.at) not in known
    ]
    said = {_outage(one): (one.cause, one.charged_to, one.reason) for one in before.lost}
    for one in after.lost:
        if one.is_corrected and said.get(_outage(one)) != (one.cause, one.charged_to, one.reason):
            found.append(f"The cause of outage {one.number} at {one.slug} was corrected: {one.reason}")
            sites = sites - {one.slug}
    agreed = {_window(one): one.state for one in before.upkeep}
    found += [
        f"Maintenance “{one.title}” is {one.state}." for one in after.upkeep if agreed.get(_window(one)) != one.state
    ]
    if sites and len(found) == 0:
        listed = ", ".join(sorted(sites)[:5]) + (f" and {len(sites) - 5} more" if len(sites) > 5 else "")
        found.append(f"Facts that came later: {listed}.")
    return found


def _outage(one: Lost) -> tuple[int, str, Any]:
    return one.number, one.provider, one.begin


def _window(one: Upkeep) -> tuple[str, str, Any, Any]:
    return one.provider, one.title, one.begin, one.end
