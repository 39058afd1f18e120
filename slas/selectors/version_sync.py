"""Version synchronisation of a contract over a time, as known at a moment; the scope must be open.

An offer counts in the period that it was made in, or the site came under the segment in while it went on; what became
of it is what is known at `as_of`.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import connections
from django.utils.module_loading import import_string

from fleet.kit.tenancy import DEFAULT
from slas.models import Contract
from slas.offers import Offer
from slas.outages import AVAILABILITY
from slas.periods import midnight
from slas.selectors.contracts import Covered, covered, terms_of, version_as_of
from slas.spans import Spans, union
from slas.states import Measure
from slas.synchronising import Row, Synchronised, Under, row_of, synchronised
from slas.terms import Objective, Terms
from slas.upkeep import ms

_EVER: Final = datetime(2000, 1, 1, tzinfo=UTC)
# Which standards were offered to sites until a moment: see fleet.rollouts.selectors.offers.
OffersOf = Callable[[Sequence[int], datetime], list[Offer]]

_ACTIVE: Final = """
SELECT site_id, min(valid_from) FROM edge_sites_stateinterval
WHERE site_id = ANY(%(sites)s) AND axis = %(axis)s AND recorded_at <= %(as_of)s GROUP BY 1
"""
_UNREACHABLE: Final = """
SELECT site_id, valid_from, CASE WHEN closed_at <= %(as_of)s THEN valid_to ELSE %(as_of)s END
FROM edge_sites_stateinterval
WHERE site_id = ANY(%(sites)s) AND axis = 'reachability' AND state = 'unreachable' AND recorded_at <= %(as_of)s
    AND (superseded_at IS NULL OR superseded_at > %(as_of)s)
    AND (valid_to IS NULL OR valid_to > %(since)s OR closed_at > %(as_of)s)
"""


@dataclass(frozen=True, slots=True)
class Synced:
    """The objective of one segment, what was found, and the names of its sites then, by id."""

    segment_id: int
    objective: Objective
    found: Synchronised
    sites: dict[int, Covered]


def version_sync_of(contract: Contract, begin: datetime, end: datetime, as_of: datetime) -> list[Synced]:
    """Each objective of version synchronisation over `[begin, end)` as known at `as_of`.

    Raises NotFound where nothing was agreed then.
    """
    version = version_as_of(contract, as_of)
    promised = [
        (segment, terms, objective)
        for segment in version.segments.all()
        for terms in [terms_of(segment)]
        for objective in terms.objectives
        if objective.measure is Measure.VERSION_SYNC
    ]
    if not promised or as_of <= begin:
        return []
    places = _merged(covered(version, _EVER, max(as_of, end)))
    facts = _Facts(sorted({place.site_id for place in places}), begin, as_of)
    found = []
    for segment, terms, objective in promised:
        frozen = _frozen(terms, version.zone)
        rows: list[Row] = []
        named: dict[int, Covered] = {}
        for place in places:
            if place.segment_id != segment.pk:
                continue
            for offer, under in facts.offers(place, begin, end):
                row = row_of(terms, objective, offer, under, ms(as_of), frozen=frozen)
                if row is not None:
                    rows.append(row)
                    named[place.site_id] = place
        found.append(Synced(segment.pk, objective, synchronised(objective, rows), named))
    return found


# ------------------------------------------------------------------------------------------------------------
class _Facts:
    """What is known of the sites: offers, since when they are active, when they could not be reached."""

    def __init__(self, sites: Sequence[int], begin: datetime, as_of: datetime) -> None:
        find: OffersOf = import_string(settings.STANDARDS_OFFERED_BY)
        self._offers: dict[int, list[Offer]] = defaultdict(list)
        for offer in find(sites, as_of) if sites else []:
            if offer.proven is None or offer.proven >= ms(begin):  # else it was over before
                self._offers[offer.site_id].append(offer)
        asked = sorted(self._offers)
        published = min((offer.published for of_site in self._offers.values() for offer in of_site), default=ms(begin))
        since = datetime.fromtimestamp(published / 1000, UTC)
        params: dict[str, Any] = {"sites": asked, "axis": AVAILABILITY, "as_of": as_of, "since": since}
        self._away: dict[int, Spans] = defaultdict(list)
        with connections[DEFAULT].cursor() as cursor:
            cursor.execute(_ACTIVE, params)
            self._active = {site: ms(at) for site, at in cursor.fetchall()}
            cursor.execute(_UNREACHABLE, params)
            for site, gone, back in cursor.fetchall():
                if gone < back:
                    self._away[site].append((ms(gone), ms(back)))

    def offers(self, place: Covered, begin: datetime, end: datetime) -> list[tuple[Offer, Under]]:
        """Those that count for a site under a segment in a time."""
        found = []
        for offer in self._offers.get(place.site_id, ()):
            eligible = max(place.window[0], self._active.get(place.site_id, place.window[1]))
            counts_at = max(offer.offered, eligible)
            is_over = offer.proven is not None and offer.proven < eligible
            if ms(begin) <= counts_at < min(ms(end), place.window[1]) and not is_over:
                found.append((offer, Under(place.site_id, eligible, place.window[1], self._away[place.site_id])))
        return found


def _frozen(terms: Terms, zone: str) -> Spans:
    days = ((midnight(one.first, zone), midnight(one.last + timedelta(days=1), zone)) for one in terms.freezes)
    return union((ms(begin), ms(end)) for begin, end in days)


def _merged(places: Sequence[Covered]) -> list[Covered]:
    """One row where another label, or name, did not end what goes on under the same segment."""
    found: list[Covered] = []
    for place in sorted(places, key=lambda one: (one.site_id, one.segment_id, one.window)):
        last = found[-1] if found else None
        if last and (last.site_id, last.segment_id, last.window[1]) == (
            place.site_id,
            place.segment_id,
            place.window[0],
        ):
            found[-1] = place._replace(window=(last.window[0], place.window[1]))
        else:
            found.append(place)
    return found
