"""Standards and rings as a viewer may see them, and what a standard says for one site; the scope must be open."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connections
from django.db.models import QuerySet

from fleet.kit.errors import Conflict, NotFound
from fleet.kit.tenancy import DEFAULT, Scope
from fleet.standards.contents import ARCHITECTURE_LABEL, for_architecture
from fleet.standards.models import Ring, RingStandard, Standard
from fleet.standards.selectors.judgement import SELECTED
from fleet.standards.states import StandardState
from sites.drafts import DraftError, configs_named
from sites.models import ComponentSet, Site, SiteState
from sites.selectors.desired import blob_list, configs_of, desired_of, standing_of


def standards_in(who: Scope) -> QuerySet[Standard]:
    """Every standard that the viewer may see: all for the enterprise, else those that the viewer's sites follow or did.

    Row-level security says so; drafts are nobody's but the enterprise's.
    """
    found = Standard.objects.all()
    return found if who.wide else found.exclude(state=StandardState.DRAFT)


def get_standard(*, scope: Scope, name: str) -> Standard:
    """One standard. Raises NotFound."""
    found = standards_in(scope).filter(name=name).first()
    if found is None:
        raise NotFound("There is no such standard, or it is not yours to see.")
    return found


def rings_in(who: Scope) -> QuerySet[Ring]:
    """Every ring that the viewer may see, in order of position; a provider sees those of its own sites."""
    return Ring.objects.order_by("position")


def get_ring(*, scope: Scope, slug: str) -> Ring:
    """One ring. Raises NotFound."""
    found = rings_in(scope).filter(slug=slug).first()
    if found is None:
        raise NotFound("There is no such ring, or it is not yours to see.")
    return found


def current_standards(rings: Iterable[Ring]) -> dict[int, RingStandard]:
    """By id of the ring: what it has now, with the standard (None where it has none)."""
    found = RingStandard.objects.filter(ring__in=list(rings), until=None).select_related("standard")
    return {row.ring_id: row for row in found}


def history_of(ring: Ring) -> list[RingStandard]:
    """What the ring has had, newest first."""
    return list(RingStandard.objects.filter(ring=ring).select_related("standard")[:100])


def spans_of(standard: Standard) -> list[RingStandard]:
    """Which rings have had the standard, newest first."""
    return list(RingStandard.objects.filter(standard=standard).select_related("ring")[:100])


def bodies_of(who: Scope, *standards: Standard) -> dict[str, bytes]:
    """The configurations that these standards name, by digest; none for a viewer of some providers only."""
    return configs_of(who, [standard.content for standard in standards])


def missing_blobs(standard: Standard) -> list[str]:
    """Digests that the standard names and that are not kept here, sorted."""
    named = configs_named(standard.content["workloads"])
    if standard.content["agent"]:
        named.add(standard.content["agent"]["blob"])
    return sorted(named - set(blob_list().filter(digest__in=named).values_list("digest", flat=True)))


def content_for(standard: Standard, site: Site) -> dict[str, Any]:
    """What a document for this site says to bring it to the standard: `workloads`, `agent`, `os` and `standard`.

    As sites.services.desired.Order takes it. The architecture is the site's label `arch`. Raises Conflict where the
    standard has no image for it.
    """
    try:
        content = for_architecture(standard.content, site.labels.get(ARCHITECTURE_LABEL, ""))
    except DraftError as error:
        raise Conflict(f"{standard.name} does not suit {site.name}: {error}") from None
    return {**content, "standard": {"id": standard.pk, "sha256": standard.sha256}}


def content_of_site(who: Scope, site: Site) -> tuple[dict[str, Any], list[str]]:
    """The content that says what this site runs now, and what of it no standard can say, in words.

    Workloads are those of the document that stands there; the kernel and the version of packages that it holds are as
    the site reported them. Raises Conflict for a site that was never told anything and reported nothing.
    """
    document = standing_of(site, desired_of(site))
    state = SiteState.objects.filter(site=site).select_related("component_set").first()
    reported = components_of(state.component_set) if state else {}
    if document is None and not reported:
        raise Conflict(f"{site.name} was never told what to run and has not reported; there is nothing to begin from.")
    content = dict(document.content) if document else {"workloads": [], "agent": None, "os": None}
    os = dict(content.get("os") or {"packages": {}, "reboot": "never"})
    os["packages"] = {name: reported.get(("os", name), at) for name, at in os["packages"].items()}
    os["kernel"] = reported.get(("kernel", "linux")) or os.get("kernel")
    named = {one["name"] for one in content["workloads"]}
    left = sorted(name for kind, name in reported if kind == "workload" and name not in named)
    said = [f"{name} runs there and is not managed by Archipelago; it is left out." for name in left]
    return {"workloads": content["workloads"], "agent": content["agent"], "os": os}, said


def components_of(found: ComponentSet | None) -> dict[tuple[str, str], str | None]:
    """Versions by kind and name of a set of components."""
    return {(kind, name): version for kind, name, version, _ in found.components} if found else {}


def held_by(
    *, labels: dict[str, str], regions: Sequence[str], providers: Sequence[int], before: int | None
) -> tuple[int, int]:
    """How many active sites a selector holds, and how many of them an earlier ring (position below `before`) takes.

    The scope must be wide.
    """
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(
            f"""
            SELECT count(*), count(*) FILTER (WHERE EXISTS (
                SELECT 1 FROM standards_ring r WHERE r.position < %(before)s AND {SELECTED}))
            FROM edge_sites_site s, (SELECT %(labels)s::jsonb AS labels, %(regions)s::jsonb AS regions,
                %(providers)s::jsonb AS providers) r
            WHERE s.life = 'active' AND {SELECTED}
            """,  # noqa: S608  (constants)
            {
                "before": 2**31 - 1 if before is None else before,
                "labels": json.dumps(labels),
                "regions": json.dumps(list(regions)),
                "providers": json.dumps(list(providers)),
            },
        )
        total, taken = cursor.fetchone()
    return total, taken
