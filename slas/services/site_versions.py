"""Keeping what became of each standard at each site this month: which standards were offered needs wide rights."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from slas.models import SiteSync
from slas.reporting.counted import Offered

_BATCH: Final = 1000
# What the page computes anew, and what the row says itself.
_LEFT_OUT: Final = {
    *("provider", "slug", "name", "standard", "until", "outcome", "site", "measure"),
    *("freeze_ms", "operator_ms", "network_ms", "provider_ms", "elapsed_ms", "charged_ms"),
}
_Key = tuple[int, int, str]


def keep_site_versions(contract: int, offered: Iterable[Offered], providers: Mapping[str, int]) -> int:
    """Keep these in place of what was kept of a contract; returns how many rows were written. Within the open scope.

    A row is written when it says something else; that time goes on is nothing else.
    """
    wanted: dict[_Key, dict[str, Any]] = {}
    for one in offered:
        if one.site is not None:
            wanted[one.site, providers[one.provider], one.standard] = _data(one)
    kept = {(row.site_id, row.provider_id, row.standard): row for row in SiteSync.objects.filter(contract=contract)}
    gone = [row.pk for key, row in kept.items() if key not in wanted]
    changed = [row for key, row in kept.items() if key in wanted and row.data != wanted[key]]
    for row in changed:
        row.data = wanted[row.site_id, row.provider_id, row.standard]
    new = [
        SiteSync(site_id=site, contract_id=contract, provider_id=provider, standard=standard, data=data)
        for (site, provider, standard), data in wanted.items()
        if (site, provider, standard) not in kept
    ]
    SiteSync.objects.filter(pk__in=gone).delete()
    SiteSync.objects.bulk_update(changed, ["data"], batch_size=_BATCH)
    SiteSync.objects.bulk_create(new, batch_size=_BATCH)
    return len(gone) + len(changed) + len(new)


def _data(one: Offered) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(one))
    return {name: value for name, value in found.items() if name not in _LEFT_OUT}
