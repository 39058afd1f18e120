"""What sites would have to fetch to run a standard, from what sites say their images take; the scope must be wide."""

from collections.abc import Collection, Mapping
from typing import Any

from django.db import connections

from fleet.kit.tenancy import DEFAULT
from fleet.standards.contents import ARCHITECTURE_LABEL
from fleet.standards.models import Standard
from sites.models import ImageSize

# Per site: which of the images it has. Sets of components are many sites' own, so each is opened once.
_HELD = """
WITH wanted AS (
    SELECT s.id, s.provider_id, COALESCE(s.labels->>%(label)s, '') AS architecture, t.component_set_id
    FROM edge_sites_site s JOIN edge_sites_sitestate t ON t.site_id = s.id
    WHERE s.id = ANY(%(sites)s) AND t.component_set_id IS NOT NULL
), held AS (
    SELECT c.digest, array_agg(part->>3) FILTER (WHERE part->>3 = ANY(%(images)s)) AS images
    FROM edge_sites_componentset c CROSS JOIN LATERAL jsonb_array_elements(c.components) AS part
    WHERE c.digest IN (SELECT component_set_id FROM wanted)
    GROUP BY 1
)
SELECT w.id, w.provider_id, w.architecture, h.images FROM wanted w LEFT JOIN held h ON h.digest = w.component_set_id
"""


_RUN = """
SELECT wanted.digest FROM unnest(%s::text[]) AS wanted(digest)
WHERE EXISTS (SELECT 1 FROM edge_sites_imagesize i WHERE i.digest = wanted.digest)
    OR EXISTS (SELECT 1 FROM edge_sites_componentset c WHERE c.components::text LIKE '%%' || wanted.digest || '%%')
"""


def never_run(standard: Standard) -> list[str]:
    """Images of the standard, `name@sha256:...`, that no site has ever said it runs: nobody knows that they exist."""
    named: dict[str, str] = {}
    for one in standard.content["workloads"]:
        for image in (one.get("images") or {"": one["image"]}).values():
            named[image.rpartition("@")[2]] = image
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_RUN, [sorted(named)])
        run = {digest for (digest,) in cursor.fetchall()}
    return sorted(image for digest, image in named.items() if digest not in run)


def download_bytes(standard: Standard, site_ids: Collection[int]) -> dict[int, int | None]:
    """Bytes, unpacked, of the images that each site lacks, by the site's id; None where the size of one is not known.

    A size is that which sites of the same provider say; failing that, the largest that any says. A site that has
    never said what it runs is not in the answer.
    """
    images = _images(standard)
    every = sorted({digest for by_architecture in images for digest in by_architecture.values()})
    own, largest = _sizes(every)
    parameters: dict[str, Any] = {"label": ARCHITECTURE_LABEL, "sites": list(site_ids), "images": every}
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_HELD, parameters)
        rows = cursor.fetchall()
    memo: dict[tuple[Any, ...], int | None] = {}
    found = {}
    for site_id, provider, architecture, held in rows:
        key = (provider, architecture, *sorted(held or ()))
        if key not in memo:
            lacking = {_image_for(one, architecture) for one in images} - set(held or ())
            sizes = [own.get((digest, provider), largest.get(digest)) for digest in lacking]
            memo[key] = _total(sizes)
        found[site_id] = memo[key]
    return found


def _images(standard: Standard) -> list[Mapping[str, str]]:
    """The digests of each workload's image by architecture, under "" where it is the same for all."""
    return [part["digests"] for part in standard.components if part["kind"] == "workload"]


def _image_for(by_architecture: Mapping[str, str], architecture: str) -> str:
    """The digest that a site takes; "" where there is none for it, whose size nobody knows."""
    return by_architecture.get("") or by_architecture.get(architecture, "")


def _sizes(digests: Collection[str]) -> tuple[dict[tuple[str, int], int], dict[str, int]]:
    """Bytes by digest and provider, and the largest by digest."""
    own: dict[tuple[str, int], int] = {}
    largest: dict[str, int] = {}
    for row in ImageSize.objects.filter(digest__in=digests).order_by("pk"):
        own[row.digest, row.provider_id] = row.bytes
        largest[row.digest] = max(row.bytes, largest.get(row.digest, 0))
    return own, largest


def _total(sizes: Collection[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None
