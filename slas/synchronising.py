"""From offers to the figures of version synchronisation: of each site and standard, and of all together. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from slas.engine import Verdict
from slas.measuring import reached
from slas.offers import Offer, Origin
from slas.settlement import Settled
from slas.spans import Span, Spans
from slas.survival import percentiles
from slas.terms import Objective, Terms
from slas.version_sync import Outcome, Owner, Split, Sync, split


@dataclass(frozen=True, slots=True)
class Under:
    """A site under a segment over `[begin, end)`, in milliseconds, and when it could not be reached."""

    site_id: int
    begin: int
    end: int
    unreachable: Spans


@dataclass(frozen=True, slots=True)
class Row:
    """One site and one standard: what the split was made of, the split, and what tells of it."""

    site_id: int
    standard: str
    start: int
    proven: int | None
    deadline_h: Fraction
    split: Split
    sync: Sync
    origin: Origin


@dataclass(frozen=True, slots=True)
class Synchronised:
    """How many were on time, late, and are pending (outside the share), and whether the promise was kept.

    `charged` and `elapsed` are percentiles (50, 90, 99) in milliseconds, None where that is not reached; `sites` what
    each site of which anything is decided comes to.
    """

    rows: Sequence[Row]
    on_time: int
    late: int
    pending: int
    charged: Sequence[int | None]
    elapsed: Sequence[int | None]
    verdict: Verdict | None
    sites: Mapping[int, Settled]

    @property
    def share(self) -> Fraction | None:
        """Of what is decided, what was on time."""
        decided = self.on_time + self.late
        return Fraction(self.on_time, decided) if decided else None


def row_of(
    terms: Terms, objective: Objective, offer: Offer, under: Under, as_of: int, *, frozen: Iterable[Span] = ()
) -> Row | None:
    """What became of an offer as far as the site was under the segment; None where nobody names a deadline.

    Whoever takes a site over has its own start; what was not proven before the hand-over is not proven under it.
    `frozen` is when the contract has nobody change anything.
    """
    deadline = objective.limit if objective.limit is not None else offer.deadline_h
    if deadline is None:
        return None
    spans = [*offer.spans, *((begin, end, Owner.NETWORK) for begin, end in under.unreachable)]
    spans += [(begin, end, Owner.FREEZE) for begin, end in frozen]
    until = min(as_of, under.end)
    sync = Sync(
        offer.published,
        under.begin,
        offer.sent,
        offer.proven,
        until,
        Fraction(deadline),
        tuple(spans),
        "charged" if terms.includes_link else "not_charged",
    )
    proven = offer.proven if offer.proven is not None and offer.proven <= until else None
    start = max(offer.published, under.begin)
    return Row(offer.site_id, offer.standard, start, proven, sync.deadline_h, split(sync), sync, offer.origin)


def synchronised(objective: Objective, rows: Iterable[Row]) -> Synchronised:
    """All of them together; each site is judged by its own share where the promise is one for each."""
    rows = list(rows)
    counts = {one: sum(row.split.verdict is one for row in rows) for one in Outcome}
    decided: dict[int, list[bool]] = {}
    for row in rows:
        if row.split.verdict is not Outcome.PENDING:
            decided.setdefault(row.site_id, []).append(row.split.verdict is Outcome.ON_TIME)
    every = [one for of_site in decided.values() for one in of_site]
    sites = {site: _settled(objective, one) for site, one in decided.items()}
    verdict = reached(objective, _settled(objective, every).verdict, [one.verdict for one in sites.values()])
    ended = [(row, row.proven is not None) for row in rows]
    return Synchronised(
        rows,
        counts[Outcome.ON_TIME],
        counts[Outcome.LATE],
        counts[Outcome.PENDING],
        percentiles((row.split.charged_ms, has_ended) for row, has_ended in ended),
        percentiles((row.split.elapsed_ms, has_ended) for row, has_ended in ended),
        verdict,
        sites,
    )


def _settled(objective: Objective, decided: Sequence[bool]) -> Settled:
    assert objective.target is not None
    if not decided:
        return Settled(None, None)
    share = Fraction(sum(decided), len(decided))
    return Settled(Verdict.MET if share >= objective.target else Verdict.MISSED, share)
