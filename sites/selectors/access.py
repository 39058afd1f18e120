"""Which sites and providers a viewer may see. Objects reach an edge only through these; the scope must be open."""

from collections.abc import Iterable
from typing import Any

from django.db.models import Q, QuerySet

from fleet.kit.errors import NotFound
from fleet.kit.tenancy import Limit, Scope
from sites.models import Provider, Site


def inside(limits: Iterable[Limit], *, prefix: str = "") -> Q:
    """Filter for sites within any of the limits; row-level security has already cut off foreign providers."""
    found = Q(pk__in=[])
    for limit in limits:
        part = Q()
        if limit.provider_id is not None:
            part &= Q(**{f"{prefix}provider_id": limit.provider_id})
        if limit.regions:
            part &= Q(**{f"{prefix}region__in": sorted(limit.regions)})
        if limit.labels:
            part &= Q(**{f"{prefix}labels__contains": dict(limit.labels)})
        if not part:
            return Q()
        found |= part
    return found


def sites_in(who: Scope) -> QuerySet[Site]:
    """Every site that the viewer may see, with its provider and state (no query a row)."""
    found = Site.objects.select_related("provider", "state")
    return found.filter(inside(who.limits)) if who.limited else found


def get_site(*, scope: Scope, slug: str) -> Site:
    """One site. Raises NotFound, also for one that the viewer may not see."""
    found = sites_in(scope).filter(slug=slug).first()
    if found is None:
        raise NotFound("There is no such site, or it is not yours to see.")
    return found


def providers_in(who: Scope) -> QuerySet[Provider]:
    """Every provider that the viewer may see; a viewer limited to regions sees those that have sites there."""
    if who.wide and who.limited:
        return Provider.objects.filter(pk__in=sites_in(who).values("provider_id"))
    return Provider.objects.all()


def get_provider(*, scope: Scope, slug: str) -> Provider:
    """One provider. Raises NotFound."""
    found = providers_in(scope).filter(slug=slug).first()
    if found is None:
        raise NotFound("There is no such provider, or it is not yours to see.")
    return found


def visible_site_ids(who: Scope) -> frozenset[int] | None:
    """Ids that a viewer limited by region or label may hear of; None where the live groups say it all."""
    return frozenset(sites_in(who).values_list("pk", flat=True)) if who.narrowed else None


def regions_in(who: Scope) -> list[str]:
    """Regions that have sites the viewer may see, sorted."""
    return list(sites_in(who).exclude(region="").order_by("region").values_list("region", flat=True).distinct())


def rings_in(who: Scope) -> list[str]:
    """Rings that have sites the viewer may see, sorted."""
    return list(sites_in(who).order_by("ring").values_list("ring", flat=True).distinct())


def limited_sql(who: Scope) -> tuple[str, list[Any]]:
    """Condition on `s` (edge_sites_site) for viewers limited by region or label, with its parameters."""
    if not who.limited:
        return "true", []
    parts: list[str] = []
    values: list[Any] = []
    for limit in who.limits:
        tests = ["true"]
        if limit.provider_id is not None:
            tests.append("s.provider_id = %s")
            values.append(limit.provider_id)
        if limit.regions:
            tests.append("s.region = ANY(%s)")
            values.append(sorted(limit.regions))
        for key, value in limit.labels:
            tests.append("s.labels ->> %s = %s")
            values += [key, value]
        parts.append("(" + " AND ".join(tests) + ")")
    return "(" + " OR ".join(parts) + ")", values
