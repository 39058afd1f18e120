"""From what is known of sites to the figures of one objective, by the engine. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

from slas.engine import Change, Figures, Piece, Rules, State, Totals, Verdict, classify, figures, tally
from slas.settlement import Settled, settle
from slas.spans import Span, Spans, length, meet, union, without
from slas.states import Measure, Reach
from slas.terms import Objective, Terms

_CODES = {
    "u": State.UP,
    "g": State.DEGRADED,
    "d": State.DOWN,
    "n": State.UNKNOWN,
    # The way to a site: what is not reachable is down; what the centre could not see is not known.
    "r": State.UP,
    "x": State.DOWN,
    "c": State.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class History:
    """A site's states on one axis as parallel lists, in order: begins and ends (None: it lasts) in milliseconds, a
    letter for each state, and whether a probe says so (`y`)."""

    begins: Sequence[int]
    ends: Sequence[int | None]
    codes: str
    proven: str

    def changes(self) -> list[Change]:
        """For the engine: from when on what is known; where nothing is recorded, nothing is."""
        if self.is_unbroken():
            known = list(zip(self.begins, map(_CODES.__getitem__, self.codes), strict=True))
            return known if self.ends[-1] is None else [*known, (self.ends[-1], State.UNKNOWN)]
        found: list[Change] = []
        until: int | None = None
        for begin, end, code in zip(self.begins, self.ends, self.codes, strict=True):
            if end is not None and end <= begin:
                continue
            if until is not None and begin > until:
                found.append((until, State.UNKNOWN))
            elif until is not None and begin < until:  # two rows of less than a millisecond: the later one counts
                begin = until
                if end is not None and end <= begin:
                    continue
            found.append((begin, _CODES[code]))
            if end is None:
                return found
            until = end
        if until is not None:
            found.append((until, State.UNKNOWN))
        return found

    def is_unbroken(self) -> bool:
        """Whether each state begins as the one before it ends, and none lasts no time: almost always it is so."""
        begins, last = self.begins, self.ends[-1] if self.ends else 0
        if not begins or (last is not None and last <= begins[-1]):
            return False
        return begins[1:] == self.ends[:-1] and len(set(begins)) == len(begins)

    def active(self, end: int) -> Spans:
        """When anything is on record of the site's own state: then it was active. Nothing else leaves a gap in it."""
        if self.is_unbroken():
            until = end if self.ends[-1] is None else self.ends[-1]
            return [(self.begins[0], until)] if self.begins[0] < until else []
        return union(
            (begin, end if until is None else until) for begin, until in zip(self.begins, self.ends, strict=True)
        )

    def spoken_for(self, end: int) -> Spans:
        """The time of which a probe says how it was."""
        return union(
            (begin, end if until is None else until)
            for begin, until, code, proven in zip(self.begins, self.ends, self.codes, self.proven, strict=True)
            if proven == "y" and code not in "nc"
        )


# What may be left out of time, by the fields of Inputs that say so.
_KINDS: Final = {
    "maintenance": ("maintenance",),
    "causes": ("causes",),
    "blind": ("blind",),
    "all": ("maintenance", "causes", "blind"),
}
NOTHING = History((), (), "", "")


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that the figures of a site under a segment rest on; all times in milliseconds.

    `hours` are the service hours while the site was active, or None for all of the window. `spoken` is when its own
    journal says how it was, as far as that is asked: within `blind`. `zone`, `active` and
    `reasons` (the cause of each excluded outage) say whence the others come; figures need them not, nor `excess`: the
    agreed maintenance that is over its cap.
    """

    site_id: int
    segment_id: int
    slug: str
    name: str
    window: Span
    history: History
    hours: Spans | None
    maintenance: Spans
    causes: Spans
    blind: Spans
    zone: str = "UTC"
    active: Sequence[Span] = ()
    reasons: Sequence[tuple[str, Span]] = ()
    spoken: Sequence[Span] = ()
    excess: Sequence[Span] = ()

    def service(self, spans: Sequence[Span]) -> int:
        """How much of some time lies in its service hours, in milliseconds."""
        return length(meet(list(spans), [self.window] if self.hours is None else self.hours))

    def exclusions(self, measure: Measure) -> Spans:
        """Outages of excluded causes, and our own blindness where nobody else speaks."""
        blind = self.blind
        if blind and measure is Measure.AVAILABILITY:
            blind = without(blind, union([*self.spoken, *self.history.spoken_for(self.window[1])]))
        return union([*self.causes, *blind]) if blind else self.causes


@dataclass(frozen=True, slots=True)
class SiteFigures:
    """A site under a segment: milliseconds by class, the shares, and what the burden of proof makes of them."""

    site_id: int
    segment_id: int
    slug: str
    name: str
    window: Span
    totals: Totals
    shares: Figures
    settled: Settled


@dataclass(frozen=True, slots=True)
class Result:
    """An objective under one segment: its sites, all of them together, and whether the promise was kept."""

    segment_id: int
    objective: Objective
    sites: Sequence[SiteFigures]
    totals: Totals
    shares: Figures
    settled: Settled
    verdict: Verdict | None


def measure(segment_id: int, terms: Terms, objective: Objective, inputs: Iterable[Inputs]) -> Result:
    """The figures of an objective of availability or reachability over all sites of a segment."""
    assert objective.target is not None
    rules = terms.rules(objective)
    rows: list[SiteFigures] = []
    total = Totals()
    for one in inputs:
        found = _tallied(one, objective.measure, rules)
        total += found
        shares = figures(found, rules)
        settled = settle(shares, objective.target, objective.burden)
        rows.append(SiteFigures(one.site_id, segment_id, one.slug, one.name, one.window, found, shares, settled))
    shares = figures(total, rules)
    settled = settle(shares, objective.target, objective.burden)
    verdict = reached(objective, settled.verdict, [row.settled.verdict for row in rows])
    return Result(segment_id, objective, rows, total, shares, settled, verdict)


def decided(result: Result, figure: Fraction) -> Result:
    """The result where a manager decides on a figure, wherever the facts prove neither; only under `open`."""
    target, burden = result.objective.target, result.objective.burden
    assert target is not None
    sites = [replace(one, settled=settle(one.shares, target, burden, decided=figure)) for one in result.sites]
    settled = settle(result.shares, target, burden, decided=figure)
    verdict = reached(result.objective, settled.verdict, [one.settled.verdict for one in sites])
    return replace(result, sites=sites, settled=settled, verdict=verdict)


def without_each(
    terms: Terms, objective: Objective, result: Result, inputs: Sequence[Inputs]
) -> list[tuple[str, int, Figures]]:
    """What the figures would be if one kind of exclusion were none, and if none were at all.

    Each with the milliseconds that stay excluded; kinds that no site has are left out.
    """
    rules, found = terms.rules(objective), []
    for kind, fields in _KINDS.items():
        touched = [one for one in inputs if any(getattr(one, name) for name in fields)]
        if not touched:
            continue
        own = {(one.site_id, one.window): one.totals for one in result.sites}
        for one in touched:
            del own[one.site_id, one.window]
        bare: dict[str, Any] = {name: [] for name in fields}
        total = sum((_tallied(replace(one, **bare), objective.measure, rules) for one in touched), Totals())
        total = sum(own.values(), total)
        found.append((kind, total.excluded_ms, figures(total, rules)))
    return found


def pieces_of(one: Inputs, what: Measure, rules: Rules) -> list[Piece]:
    """A site's window cut into pieces by class, in order and without a hole."""
    return classify(
        one.window,
        one.history.changes(),
        calendar=one.hours,
        maintenance=one.maintenance,
        exclusions=one.exclusions(what),
        rules=rules,
    )


def reached(objective: Objective, pooled: Verdict | None, sites: Iterable[Verdict | None]) -> Verdict | None:
    """Whether the promise was kept, as far as it reaches. Sites of which nothing was to be measured do not count."""
    if objective.reach is Reach.POOLED:
        return pooled
    found = [verdict for verdict in sites if verdict is not None]
    if not found:
        return None
    share = objective.share if objective.reach is Reach.SHARE_OF_SITES and objective.share is not None else Fraction(1)
    met, missed = found.count(Verdict.MET), found.count(Verdict.MISSED)
    if Fraction(met, len(found)) >= share:
        return Verdict.MET
    return Verdict.MISSED if Fraction(len(found) - missed, len(found)) < share else Verdict.UNDETERMINED


def _tallied(one: Inputs, what: Measure, rules: Rules) -> Totals:
    return tally(
        one.window,
        one.history.changes(),
        calendar=one.hours,
        maintenance=one.maintenance,
        exclusions=one.exclusions(what),
        rules=rules,
    )


def clipped(spans: Iterable[Span], window: Span) -> Spans:
    """A set of time within a window."""
    return meet(union(spans), [window])
