"""What differs between two revisions of a report, in milliseconds by class and site, and what brought it. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Final, TypeVar

from slas.engine import Totals
from slas.reporting.counted import Latency, Offered, Synced
from slas.reporting.paper import Lost, Paper, Place, Promise, Restored, Upkeep
from slas.rounding import percent_4

Other = Restored | Synced | Latency
Some = TypeVar("Some", Promise, Other)
# What is told of figures that are no shares of time: of each as far as it has them.
FIGURES: Final = ("figure", "count", "share", "on_time", "late", "pending", "polls")
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
class Counted:
    """An objective of restoration, response, versions or round trips of which figure, verdict or credit differ:
    what each figure was and is, by its name."""

    provider: str
    measure: str
    figures: Mapping[str, tuple[str | None, str | None]]
    verdict: tuple[str | None, str | None]
    credit: tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class OfferChange:
    """A site and a standard of which something else is known than before: outcome, and what is charged."""

    slug: str
    standard: str
    outcome: tuple[str | None, str | None]
    charged_ms: tuple[int | None, int | None]


@dataclass(frozen=True, slots=True)
class Difference:
    """All that differs; `causes` are sentences, the most telling first."""

    causes: Sequence[str]
    promises: Sequence[Change]
    sites: Sequence[SiteChange]
    counted: Sequence[Counted] = ()
    offers: Sequence[OfferChange] = ()

    def as_json(self) -> dict[str, Any]:
        """To be kept and shown."""
        return asdict(self)


def difference(before: Paper, after: Paper) -> Difference:
    """What the newer paper says otherwise."""
    old, new = _numbered(before.promises), _numbered(after.promises)
    promises = [_change(old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)]
    sites, offers = _sites(before.places, after.places), _offers(before.offered, after.offered)
    touched = {one.slug for one in sites} | {one.slug for one in offers}
    counted = _counted(before, after)
    causes = _causes(before, after, touched)
    if counted and not causes:
        names = dict.fromkeys(one.measure.split()[0].replace("_", " ") for one in counted)
        causes.append(f"More is known of {', '.join(names)}.")
    return Difference(causes, promises, sites, counted, offers)


# ------------------------------------------------------------------------------------------------------------
def _numbered(promises: Iterable[Some]) -> dict[tuple[str, str, int], Some]:
    """By provider and measure; the second segment of the same in a period is number 1."""
    found: dict[tuple[str, str, int], Some] = {}
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


def _counted(before: Paper, after: Paper) -> list[Counted]:
    old, new = _numbered(_others(before)), _numbered(_others(after))
    found = [_other(key, old.get(key), new.get(key)) for key in {**old, **new}]
    return [one for one in found if one.figures or one.verdict[0] != one.verdict[1] or one.credit[0] != one.credit[1]]


def _others(paper: Paper) -> list[Other]:
    return [*paper.restored, *paper.synced, *paper.latencies]


def _other(key: tuple[str, str, int], old: Any, new: Any) -> Counted:
    pair = (old, new)
    names = [name for name in FIGURES if any(hasattr(one, name) for one in pair)]
    figures = {name: [_figure(key[1], getattr(one, name, None)) for one in pair] for name in names}
    money = [f"{one.credit:f} {one.currency}" if getattr(one, "currency", "") else None for one in pair]
    return Counted(
        key[0],
        key[1],
        {name: (was, is_) for name, (was, is_) in figures.items() if was != is_},
        (old.verdict if old else None, new.verdict if new else None),
        (money[0], money[1]),
    )


def _figure(measure: str, value: Any) -> str | None:
    """A share in per cent, hours as such, both with four places; counts and milliseconds whole."""
    if not isinstance(value, Fraction):
        return None if value is None else str(value)
    return f"{percent_4(value / 100 if measure.startswith('restoration') else value):f}"


def _offers(before: Iterable[Offered], after: Iterable[Offered]) -> list[OfferChange]:
    old, new = ({(one.slug, one.standard, one.eligible): one for one in some} for some in (before, after))
    found = []
    for key in sorted(old.keys() | new.keys()):
        was, is_ = old.get(key), new.get(key)
        if was is None or is_ is None or (was.outcome, was.proven) != (is_.outcome, is_.proven):
            outcomes = (was.outcome if was else None, is_.outcome if is_ else None)
            charged = (was.charged_ms if was else None, is_.charged_ms if is_ else None)
            found.append(OfferChange(key[0], key[1], outcomes, charged))
    return found


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
