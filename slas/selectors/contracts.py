"""Contracts as a viewer may see them, and which sites a version covers when; the scope must be open."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from django.db.models import Prefetch, QuerySet

from fleet.kit.errors import NotFound
from fleet.kit.prepared import prepared
from fleet.kit.tenancy import Scope
from slas.models import Contract, ContractVersion, Segment
from slas.spans import Span
from slas.terms import Terms, read_terms
from slas.upkeep import moment_of

# Milliseconds since the epoch, exactly: as a double a moment is right to a quarter of a microsecond.
MS: Final = "((date_part('epoch', {0}) * 1000000)::int8 / 1000)"

# A site is under a segment while its provider had it and its traits of then fit. A hand-over ends one and begins the
# other's; the times are the tenures', so nobody targets anything anew.
COVERED: Final = f"""
SELECT t.site_id, g.id, t.slug, t.name, t.time_zone,
    {MS.format("GREATEST(g.begins, t.valid_from, x.valid_from, %(begin)s)")},
    {MS.format("LEAST(g.ends, t.valid_to, x.valid_to, %(end)s)")}
FROM slas_segment g
JOIN edge_sites_sitetenure t ON t.provider_id = g.provider_id
    AND t.valid_from < LEAST(g.ends, %(end)s) AND (t.valid_to IS NULL OR t.valid_to > GREATEST(g.begins, %(begin)s))
JOIN slas_sitetraits x ON x.site_id = t.site_id
    AND x.valid_from < LEAST(g.ends, t.valid_to, %(end)s)
    AND (x.valid_to IS NULL OR x.valid_to > GREATEST(g.begins, t.valid_from, %(begin)s))
WHERE g.version_id = %(version)s AND g.begins < %(end)s AND (g.ends IS NULL OR g.ends > %(begin)s)
    AND (%(sites)s::int[] IS NULL OR t.site_id = ANY(%(sites)s::int[]))
    AND x.labels @> %(labels)s::jsonb AND (%(regions)s::text[] = '{{}}' OR x.region = ANY(%(regions)s::text[]))
ORDER BY 1, 6
"""  # noqa: S608  (constants)
# As plain statements: for a few sites, to have the ORM make its own costs as much as their figures do.
_VERSION: Final = """
SELECT v.* FROM slas_contractversion v WHERE v.contract_id = %s AND v.made_at <= %s ORDER BY v.number DESC LIMIT 1
"""
_SEGMENTS: Final = "SELECT g.* FROM slas_segment g WHERE g.version_id = %s ORDER BY g.begins, g.id"


class Covered(NamedTuple):
    """A site is under a segment over a window, in milliseconds; its names and zone are those of then."""

    site_id: int
    segment_id: int
    slug: str
    name: str
    zone: str
    window: Span

    @property
    def begin(self) -> datetime:
        """When it comes under the segment."""
        return moment_of(self.window[0])

    @property
    def end(self) -> datetime:
        """When it is under it no longer."""
        return moment_of(self.window[1])


def contracts_in(who: Scope) -> QuerySet[Contract]:
    """Every contract that the viewer may see: all, or those that its providers have a segment in.

    A contract is seen whole or not at all: a viewer limited to regions or labels sees none.
    """
    return Contract.objects.none() if who.narrowed else Contract.objects.all()


def get_contract(*, scope: Scope, slug: str) -> Contract:
    """One contract. Raises NotFound, also for one that the viewer may not see."""
    found = contracts_in(scope).filter(slug=slug).first()
    if found is None:
        raise NotFound("There is no such contract, or it is not yours to see.")
    return found


def versions_of(contract: Contract) -> QuerySet[ContractVersion]:
    """What was agreed over time, newest first, with its segments (of the viewer's own providers)."""
    segments = Prefetch("segments", Segment.objects.select_related("provider"))
    return (
        ContractVersion.objects.filter(contract=contract)
        .select_related("contract")
        .order_by("-number")
        .prefetch_related(segments)
    )


def version_as_of(contract: Contract, as_of: datetime | None = None) -> ContractVersion:
    """The version that counted at a moment; the newest where none is named. Raises NotFound where there was none."""
    found = versions_of(contract)
    version = (found if as_of is None else found.filter(made_at__lte=as_of)).first()
    if version is None:
        raise NotFound("Nothing was agreed then.")
    return version


def agreed(contract: Contract, as_of: datetime) -> ContractVersion:
    """As version_as_of(), with nothing read but the version itself: for figures, asked for again and again."""
    for version in ContractVersion.objects.raw(_VERSION, [contract.pk, as_of]):
        version.contract = contract
        return version
    raise NotFound("Nothing was agreed then.")


def segments_in(version: ContractVersion) -> list[Segment]:
    """Its segments (of the viewer's own providers), in their order, with nothing read but themselves."""
    return list(Segment.objects.raw(_SEGMENTS, [version.pk]))


def terms_of(segment: Segment) -> Terms:
    """What a segment promises."""
    faults: list[Any] = []
    terms = read_terms(segment.terms, faults)
    assert not faults, faults  # it was read before it was stored
    return terms


def written(version: ContractVersion, segments: Sequence[Segment] | None = None) -> dict[str, Any]:
    """A version as people write it (see slas.agreements): to be changed, or compared with another."""
    listed = version.segments.all() if segments is None else segments
    return {
        "zone": version.zone,
        "labels": version.labels,
        "regions": version.regions,
        "segments": [
            {
                "provider": one.provider.slug,
                "begins": one.begins.isoformat(),
                "ends": one.ends.isoformat() if one.ends else None,
                "gap_reason": one.gap_reason,
                "fee": f"{one.fee.normalize():f}",
                "currency": one.currency,
                "rule_version": one.rule_version,
                **one.terms,
            }
            for one in listed
        ],
    }


def covered(
    version: ContractVersion, begin: datetime, end: datetime, *, site_ids: Iterable[int] | None = None
) -> list[Covered]:
    """Which sites the version covers within `[begin, end)`, under which segment and when, by site and begin.

    Of some sites only, where those are named.
    """
    rows = prepared(
        COVERED,
        {
            "version": version.pk,
            "begin": begin,
            "end": end,
            "labels": json.dumps(version.labels),
            "regions": version.regions,
            "sites": None if site_ids is None else list(site_ids),
        },
    )
    return [
        Covered(site, segment, slug, name, zone, (since, until))
        for site, segment, slug, name, zone, since, until in rows
        if since < until
    ]
