"""Contracts, and sites whose states are written as facts."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction

from fleet.kit.tenancy import job, scope
from sites.models import Provider, Site
from slas.models import ContractVersion
from slas.services.contracts import create_contract
from tests.conftest import everything
from tests.database import OWNER, rows

TEST = job("test")
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


def objective(**values: Any) -> dict[str, Any]:
    return {"measure": "availability", "target": "99.5", "burden": "provider", **values}


def segment(provider: str | Provider, **values: Any) -> dict[str, Any]:
    return {
        "provider": provider if isinstance(provider, str) else provider.slug,
        "begins": "2026-11-01T00:00",
        "ends": None,
        "fee": "1200.00",
        "currency": "EUR",
        "objectives": [objective()],
        **values,
    }


def agreement(*segments: Mapping[str, Any], **values: Any) -> dict[str, Any]:
    return {"zone": "UTC", "labels": {}, "regions": [], "segments": list(segments), **values}


def make_contract(*segments: Mapping[str, Any], slug: str = "shops", **values: Any) -> ContractVersion:
    return create_contract(
        actor=TEST,
        rights=everything(),
        slug=slug,
        name=slug.title(),
        agreement=agreement(*segments, **values),
        reason="agreed today",
    )


def tenures(site: Site, *spans: tuple[Provider, datetime, datetime | None]) -> None:
    """Who had the site when, in place of what the factory wrote."""
    for table in ("edge_sites_sitetenure", "slas_sitetraits"):
        rows(f"DELETE FROM {table} WHERE site_id = %s", [site.pk], using=OWNER)
    for provider, begin, end in spans:
        rows(
            "INSERT INTO edge_sites_sitetenure"
            " (site_id, provider_id, valid_from, valid_to, name, slug, place, time_zone)"
            " VALUES (%s, %s, %s, %s, %s, %s, '', %s)",
            [site.pk, provider.pk, begin, end, site.name, site.slug, site.time_zone],
            using=OWNER,
        )
        rows(
            "INSERT INTO slas_sitetraits (site_id, provider_id, valid_from, valid_to, labels, region)"
            " SELECT id, %s, %s, %s, labels || jsonb_build_object('ring', ring), region FROM edge_sites_site"
            " WHERE id = %s",
            [provider.pk, begin, end, site.pk],
            using=OWNER,
        )


def states(site: Site, axis: str, *changes: tuple[datetime, str], provider: Provider | None = None) -> None:
    """The site's history on an axis, in place of what the factory wrote: each state holds until the next."""
    with transaction.atomic(OWNER):
        rows("SET LOCAL session_replication_role = replica", using=OWNER)  # past the guard of facts
        rows("DELETE FROM edge_sites_stateinterval WHERE site_id = %s AND axis = %s", [site.pk, axis], using=OWNER)
    ends: Sequence[datetime | None] = [*(at for at, _ in changes[1:]), *([None] if changes else [])]
    for (at, state), end in zip(changes, ends, strict=True):
        interval(site, axis, state, at, end, provider=provider)


def interval(
    site: Site,
    axis: str,
    state: str,
    begin: datetime,
    end: datetime | None,
    *,
    provider: Provider | None = None,
    source: str = "poll",
    recorded: datetime | None = None,
    closed: datetime | None = None,
    superseded: datetime | None = None,
    evidence: str = "{}",
) -> None:
    """One row of history."""
    rows(
        "INSERT INTO edge_sites_stateinterval (site_id, provider_id, axis, state, valid_from, valid_to, recorded_at,"
        " closed_at, superseded_at, source, evidence) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [
            *(site.pk, provider.pk if provider else site.provider_id, axis, state, begin, end),
            *(recorded or begin, closed or end, superseded, source, evidence),
        ],
        using=OWNER,
    )


def after(begin: datetime, **span: float) -> datetime:
    return begin + timedelta(**span)


def seen(who: Any, query: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """What a scope sees of a table."""
    with scope(who):
        return rows(query, params)
