"""What became of standards at a site this month, as a viewer may see it; the scope must be open."""

from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction
from typing import Any

import msgspec

from fleet.kit.tenancy import Scope
from sites.models import Site
from slas.models import Contract, Scorecard, SiteSync
from slas.reporting.counted import Offered
from slas.reporting.paper import by_rank
from slas.selectors.contracts import contracts_in
from slas.upkeep import ms
from slas.version_sync import Owner, Sync, split


def versions_of_site(who: Scope, site: Site, now: datetime) -> list[tuple[Contract, Offered]]:
    """Each standard that a contract which the viewer sees promises in time, the latest first; as known when the month's
    scorecard was computed."""
    found = SiteSync.objects.filter(site=site, contract__in=contracts_in(who).values("pk"))
    cards = Scorecard.objects.filter(contract__in=found.values("contract"), begins__lte=now, ends__gt=now)
    as_of = {(row.contract_id, row.provider_id): row.as_of for row in cards.defer("lines")}
    listed = [
        (row.contract, _offered(row, site, as_of[row.contract_id, row.provider_id]))
        for row in found.select_related("contract", "provider")
        if (row.contract_id, row.provider_id) in as_of
    ]
    return sorted(listed, key=lambda one: (*by_rank(one[1]), one[1].standard))


# ------------------------------------------------------------------------------------------------------------
def _offered(row: SiteSync, site: Site, as_of: datetime) -> Offered:
    """The row with its outcome as of a moment."""
    data: Mapping[str, Any] = row.data
    moments: dict[str, Any] = {
        name: None if data[name] is None else datetime.fromisoformat(data[name])
        for name in ("published", "eligible", "sent", "proven")
    }
    spans = [(datetime.fromisoformat(begin), datetime.fromisoformat(end), whose) for begin, end, whose in data["spans"]]
    sync = Sync(
        ms(moments["published"]),
        ms(moments["eligible"]),
        None if moments["sent"] is None else ms(moments["sent"]),
        None if moments["proven"] is None else ms(moments["proven"]),
        ms(as_of),
        Fraction(data["deadline_h"]),
        tuple((ms(begin), ms(end), Owner(whose)) for begin, end, whose in spans),
        "charged" if data["includes_link"] else "not_charged",
    )
    found = split(sync)
    told: dict[str, Any] = {
        **data,
        **{name: getattr(found, name) for name in found.__dataclass_fields__ if name != "verdict"},
        "outcome": str(found.verdict),
        "until": as_of,
        "provider": row.provider.name,
        "slug": site.slug,
        "name": site.name,
        "standard": row.standard,
        "site": site.pk,
    }
    return msgspec.convert(told, Offered, strict=False)
