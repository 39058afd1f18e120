"""What a plan is made of: which sites a selection is, and what is known of each; the scope must be open and wide."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.db import connections
from django.db.models import Q, QuerySet

from fleet.kit.errors import Invalid
from fleet.kit.tenancy import DEFAULT, Scope
from fleet.rollouts.counting import are
from fleet.rollouts.counting import sites as counted
from fleet.rollouts.engine.facts import Origin
from fleet.rollouts.models import OPEN_STEPS, ProviderCalendar
from fleet.rollouts.preview import Pace, PlanSite
from fleet.rollouts.recipe import Selection
from fleet.rollouts.selectors.downloads import download_bytes
from fleet.rollouts.states import ACTIVE, WAITING
from fleet.rollouts.windows import Calendar
from fleet.standards.models import Standard
from fleet.standards.selectors import compliance
from fleet.standards.selectors import standards as known
from fleet.standards.selectors.judgement import conforming
from fleet.standards.states import Severity, StandardState
from sites.filters import of_kinds
from sites.models import Site
from sites.selectors.access import providers_in, regions_in, rings_in, sites_in
from sites.states import Life
from slas.selectors.budgets import budgeted_among

OFFLINE_DAYS = 14

# The share of the last OFFLINE_DAYS that a site was not heard; one younger than that since it was made.
_SITES = """
SELECT s.id, s.name, s.provider_id, s.region, s.time_zone, s.labels || jsonb_build_object('ring', s.ring),
    e.reachability = 'reachable' AND NOT COALESCE(t.recovering, false),
    COALESCE(off.seconds, 0) / GREATEST(60, extract(epoch FROM %(now)s - GREATEST(%(since)s, s.created_at))),
    CASE WHEN t.document_id IS NULL THEN 'none'
        WHEN (t.reported_epoch, t.reported_version, t.reported_state) = (d.epoch, d.version, 'applied') THEN 'proven'
        ELSE 'last_good' END,
    disk.free_bytes, other.name
FROM edge_sites_site s
JOIN edge_sites_sitestate e ON e.site_id = s.id
LEFT JOIN edge_sites_sitedesired t ON t.site_id = s.id
LEFT JOIN edge_sites_desireddocument d ON d.id = t.document_id
LEFT JOIN (
    SELECT site_id, sum(extract(epoch FROM LEAST(COALESCE(valid_to, %(now)s), %(now)s)
        - GREATEST(valid_from, %(since)s))) AS seconds
    FROM edge_sites_stateinterval
    WHERE axis = 'reachability' AND state = 'unreachable' AND superseded_at IS NULL
        AND COALESCE(valid_to, %(now)s) > %(since)s AND site_id = ANY(%(sites)s)
    GROUP BY 1
) off ON off.site_id = s.id
LEFT JOIN LATERAL (
    SELECT disk_total_bytes - disk_bytes AS free_bytes FROM sample
    WHERE site_id = s.id AND at > %(now)s - interval '1 hour' ORDER BY at DESC LIMIT 1
) disk ON true
LEFT JOIN LATERAL (
    SELECT r.name FROM rollouts_sitestep x JOIN rollouts_rollout r ON r.id = x.rollout_id
    WHERE x.site_id = s.id AND x.state = ANY(%(held)s) AND r.state = ANY(%(active)s) AND r.id <> %(but)s
    ORDER BY r.id LIMIT 1
) other ON true
WHERE s.id = ANY(%(sites)s) ORDER BY s.id
"""
# How long steps took from their claim to their proof, soaks left out: the middle of the quick and of the slow half.
_PACE = """
SELECT percentile_cont(ARRAY[0.25, 0.9]) WITHIN GROUP (ORDER BY took) FROM (
    SELECT GREATEST(1, extract(epoch FROM s.since - a.given_at) - %(soak)s) AS took
    FROM rollouts_sitestep s JOIN LATERAL (
        SELECT given_at FROM rollouts_attempt WHERE step_id = s.id AND kind = 'apply' ORDER BY id DESC LIMIT 1
    ) a ON true
    WHERE s.state = 'proven' ORDER BY s.since DESC LIMIT 500
) x HAVING count(*) >= 20
"""


def selected(who: Scope, wanted: Selection) -> list[int]:
    """Ids of the active sites that a selection is. Raises Invalid for one that is empty, or names unknown sites."""
    if wanted.is_empty:
        raise Invalid("Say which sites: nothing selects all of them by chance.", details={"select": "empty"})
    found = sites_in(who).filter(life=Life.ACTIVE)
    if wanted.sites is not None:
        found = found.filter(slug__in=wanted.sites)
    for field, values in (("provider__slug", wanted.providers), ("region", wanted.regions), ("ring", wanted.rings)):
        if values:
            found = found.filter(**{f"{field}__in": values})
    if wanted.labels:
        found = found.filter(labels__contains=wanted.labels)
    if wanted.kinds:
        found = found.filter(of_kinds(list(wanted.kinds)))
    for word in wanted.text.split()[:6]:
        found = found.filter(Q(name__icontains=word) | Q(slug__icontains=word) | Q(place__icontains=word))
    found = _by_compliance(who, found, wanted)
    ids = list(found.order_by("pk").values_list("pk", flat=True))
    if wanted.sites is not None:
        _all_known(who, wanted.sites)
    return ids


def _by_compliance(who: Scope, found: QuerySet[Site], wanted: Selection) -> QuerySet[Site]:
    if not (wanted.compliance or wanted.component or wanted.follows or wanted.ring):
        return found
    narrow = compliance.narrowed(who, standard=wanted.follows, ring=wanted.ring)
    judged = compliance.sites_of(who, narrow)
    if wanted.compliance:
        judged = compliance.in_state(judged, wanted.compliance)
    if wanted.component:
        one = wanted.component
        judged = compliance.with_component(judged, kind=one.kind, name=one.name, version=one.version)
    return found.filter(pk__in=judged.values("site_id"))


def _all_known(who: Scope, slugs: Collection[str]) -> None:
    known = set(sites_in(who).filter(slug__in=slugs, life=Life.ACTIVE).values_list("slug", flat=True))
    unknown = sorted(set(slugs) - known)
    if unknown:
        listed = ", ".join(unknown[:5])
        words = f"{counted(len(unknown))} {are(len(unknown))} not there, or not active: {listed}."
        raise Invalid(words, details={"sites": unknown[:100]})


def plan_sites(
    site_ids: Collection[int], standard: Standard, now: datetime, *, but_rollout: int = 0
) -> dict[int, PlanSite]:
    """What is known of these sites, by id. `but_rollout`: the one that is planned anew is not in its own way."""
    since = now - timedelta(days=OFFLINE_DAYS)
    parameters: dict[str, Any] = {
        "sites": list(site_ids),
        "now": now,
        "since": since,
        "held": [str(state) for state in (*WAITING, *OPEN_STEPS)],
        "active": [str(state) for state in ACTIVE],
        "but": but_rollout,
    }
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_SITES, parameters)
        rows = cursor.fetchall()
    proven = conforming(standard_id=standard.pk, site_ids=list(site_ids))
    to_fetch = download_bytes(standard, site_ids)
    budgeted = budgeted_among(site_ids, now)
    found = {}
    for site_id, name, provider, region, zone, labels, reachable, offline, origin, free, other in rows:
        found[site_id] = PlanSite(
            id=site_id,
            name=name,
            provider=provider,
            region=region,
            zone=zone,
            labels=_labels(labels),
            reachable=reachable,
            offline_share=min(1.0, float(offline)),
            conforms=site_id in proven,
            origin=Origin(origin),
            free_bytes=free,
            download_bytes=to_fetch.get(site_id),
            other_rollout=other or "",
            has_budget=site_id in budgeted,
        )
    return found


def _labels(value: Any) -> dict[str, str]:
    read = msgspec.json.decode(value) if isinstance(value, str) else value
    return {key: str(one) for key, one in read.items()}


def calendars() -> dict[int, Calendar]:
    """The providers' own calendars, by the provider's id."""
    found = ProviderCalendar.objects.order_by("pk")
    return {row.provider_id: msgspec.convert(row.calendar, Calendar) for row in found}


def usual_pace(soak_s: int) -> Pace:
    """How long steps take here, from those that were proven last; the preview's own guess while there are few."""
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_PACE, {"soak": soak_s})
        row = cursor.fetchone()
    return Pace(*row[0]) if row else Pace()


def ids_of(who: Scope, slugs: Mapping[str, Any] | Collection[str]) -> dict[str, int]:
    """Ids of active sites by slug. Raises Invalid for one that is not known."""
    _all_known(who, list(slugs))
    return dict(sites_in(who).filter(slug__in=list(slugs)).values_list("slug", "pk"))


def plannable(name: object) -> Standard:
    """The published standard of that name. Raises Invalid."""
    found = Standard.objects.filter(name=name).first() if isinstance(name, str) else None
    if found is None:
        raise Invalid("Name a standard.", details={"standard": "there is no such standard"})
    if found.state != StandardState.PUBLISHED:
        raise Invalid(f"{found.name} is not published.", details={"standard": "not published"})
    return found


def plan_choices(who: Scope) -> dict[str, list[tuple[str, str]]]:
    """What a plan may name, as (value, words), by the field of the form that names it.

    A standard says how many of the sites that follow it do not run it.
    """
    counts = compliance.counts_by(who, "standard")
    standards = list(known.standards_in(who).exclude(state=StandardState.DRAFT))
    published = [row for row in standards if row.state == StandardState.PUBLISHED]
    providers = list(providers_in(who))
    return {
        "standard": [("", "Choose one…"), *((row.name, _standard_words(row, counts.get(row.pk))) for row in published)],
        "follows": [("", "any"), *((row.name, row.name) for row in standards)],
        "ring": [("", "any"), *known.rings_in(who).values_list("slug", "name")],
        "providers": [(row.slug, row.name) for row in providers],
        "approvers": [(str(row.pk), row.name) for row in providers],
        "regions": [(name, name) for name in regions_in(who)],
        "rings": [(name, name) for name in rings_in(who)],
    }


def _standard_words(row: Standard, counts: Mapping[str, int] | None) -> str:
    words = [row.name, "security" if row.severity == Severity.SECURITY else ""]
    followed = counts["sites"] if counts else 0
    if counts and followed:
        words.append(f"{followed - counts['conform']} of the {followed} that follow it differ")
    return " · ".join(word for word in words if word)
