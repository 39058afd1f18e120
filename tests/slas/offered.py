"""Standards that were offered to sites, said by a test in place of rollouts: settings.STANDARDS_OFFERED_BY names it."""

from collections.abc import Sequence
from datetime import datetime

from slas.offers import Offer
from slas.upkeep import ms

SAYS = "tests.slas.offered.offers_of"
OFFERS: list[Offer] = []


def offers_of(site_ids: Sequence[int], as_of: datetime) -> list[Offer]:
    """As known at a moment: what was offered later does not exist, what was proven later is not proven."""
    until = ms(as_of)
    return [
        one._replace(proven=one.proven if one.proven is not None and one.proven <= until else None)
        for one in OFFERS
        if one.site_id in site_ids and one.offered <= until
    ]
