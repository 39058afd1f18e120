"""API operations on compliance: figures, sites, components, spread, history."""

from typing import Any, Literal

from django.db.models import QuerySet
from django.http import HttpResponse
from django.utils import timezone
from ninja import Query, Router, Schema

from fleet.kit.api import page_of
from fleet.kit.errors import NotFound
from fleet.kit.http import ScopedRequest
from fleet.standards import schemas
from fleet.standards.models import SiteCompliance
from fleet.standards.present import csv_lines, words_of
from fleet.standards.selectors import compliance
from fleet.standards.selectors.compliance import Narrow
from fleet.standards.selectors.standards import rings_in, standards_in
from sites.selectors.access import get_site, providers_in

router = Router()


class Narrowing(Schema):
    """What is looked at; each may be left out. Slugs of provider and ring, name of a standard, a region."""

    provider: str = ""
    ring: str = ""
    standard: str = ""
    region: str = ""

    def of(self, request: ScopedRequest) -> Narrow:
        """The same as selectors take it."""
        return compliance.narrowed(request.who, **self.dict(include={"provider", "ring", "standard", "region"}))


class SitesNarrowing(Narrowing):
    """The same, a state (conform, drift, unknown, none), and a component that differs."""

    compliance: Literal["", "conform", "drift", "unknown", "none"] = ""
    kind: str = ""
    name: str = ""

    def sites(self, request: ScopedRequest) -> QuerySet[SiteCompliance]:
        """How the sites compare that pass."""
        found = compliance.in_state(compliance.sites_of(request.who, self.of(request)), self.compliance)
        if self.kind and self.name:
            found = compliance.with_component(found, kind=self.kind, name=self.name)
        return found


@router.get("/compliance", response=schemas.ComplianceOut, summary="Compliance in figures")
def figures(request: ScopedRequest, narrowing: Query[Narrowing]) -> dict[str, Any]:
    """Active sites by state, and the same by provider, ring and standard."""
    narrow = narrowing.of(request)
    names = {
        "provider": dict(providers_in(request.who).values_list("pk", "slug")),
        "ring": dict(rings_in(request.who).values_list("pk", "slug")),
        "standard": dict(standards_in(request.who).values_list("pk", "name")),
    }
    return {
        **compliance.counts(request.who, narrow),
        **{
            f"by_{group}": [
                {"name": names[group].get(key) if key is not None else None, **counts}
                for key, counts in compliance.counts_by(request.who, group, narrow).items()  # type: ignore[arg-type]  # one of Group
            ]
            for group in names
        },
    }


@router.get("/compliance/sites", response=schemas.SiteCompliancePage, summary="How sites compare")
def sites(
    request: ScopedRequest, narrowing: Query[SitesNarrowing], limit: int = 100, cursor: str | None = None
) -> dict[str, Any]:
    """Active sites with their exact differences."""
    found = narrowing.sites(request)
    return page_of(found, key="site_id", limit=limit, cursor=cursor, out=schemas.compliance_out)


@router.get("/compliance/sites.csv", summary="How sites compare, as CSV")
def sites_csv(request: ScopedRequest, narrowing: Query[SitesNarrowing]) -> HttpResponse:
    """All that pass, the oldest first, behind a byte-order mark."""
    return csv_response(narrowing.sites(request).order_by("since", "site_id"))


@router.get("/compliance/drift", response=schemas.DriftPage, summary="Drift by component")
def drift(request: ScopedRequest, narrowing: Query[Narrowing]) -> dict[str, Any]:
    """Differences of sites in drift, those of most sites first."""
    found = compliance.drift_by_component(request.who, narrowing.of(request), limit=1000)
    items = []
    for one in found:
        plain = {name: getattr(one, name) for name in ("kind", "name", "verb", "want", "have", "sites", "oldest")}
        items.append({**plain, "words": words_of(plain)})
    return {"items": items, "next": None}


@router.get("/compliance/spread", response=schemas.SpreadPage, summary="Versions in use")
def spread(request: ScopedRequest, narrowing: Query[Narrowing], kind: str = "", name: str = "") -> dict[str, Any]:
    """Every version of every component that active sites last reported, whatever standard they follow."""
    found = compliance.spread(request.who, narrowing.of(request), kind=kind, name=name, limit=5000)
    names = schemas.InUseOut.model_fields
    return {"items": [{field: getattr(one, field) for field in names} for one in found], "next": None}


@router.get("/compliance/history", response=schemas.HistoryOut, summary="Compliance over time")
def history(
    request: ScopedRequest, narrowing: Query[Narrowing], span: Literal["24h", "7d", "30d", "90d"] = "7d"
) -> dict[str, Any]:
    """How many sites were what, from the facts: what was found later about a moment counts for it."""
    found = compliance.over_time(request.who, narrowing.of(request), until=timezone.now(), span=span)
    return {"since": found.since, "step_s": found.step_s, **found.states, "ratio": found.ratios()}


@router.get("/sites/{slug}/compliance", response=schemas.SiteComplianceOut, summary="How a site compares")
def one_site(request: ScopedRequest, slug: str) -> dict[str, Any]:
    """A site's components beside its standard; 404 for one that was never judged (it is not active)."""
    site = get_site(scope=request.who, slug=slug)
    found = compliance.compliance_of(site)
    if found is None:
        raise NotFound("This site is not active; nothing was compared.")
    found.site.provider = site.provider
    return schemas.compliance_out(found)


def csv_response(found: QuerySet[SiteCompliance]) -> HttpResponse:
    """A file of CSV that spreadsheets read as UTF-8."""
    response = HttpResponse("\ufeff" + "".join(csv_lines(found)), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="compliance.csv"'
    return response
