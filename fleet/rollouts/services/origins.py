"""Where sites are before a rollout changes them: what a rollback leads each of them back to.

A site's word is not enough: its origin is the document that its last report shows to be carried out. That of a site at
which somebody changed things by hand, or that says it did what it did not, is no newer than what it really runs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from django.db import connections

from fleet.kit.tenancy import DEFAULT
from fleet.rollouts.engine.facts import Origin
from fleet.standards.contents import KERNEL_NAME, expected_components
from sites.models import DesiredDocument, Site, SiteDesired
from sites.selectors.desired import standing_of

Reported = Mapping[tuple[str, str], tuple[str | None, str | None]]
"""Version and digest by kind and name."""

_LOOKED_AT: Final = 5
_REPORTED: Final = """
SELECT t.site_id, t.component_set_id, c.components::text FROM edge_sites_sitestate t
JOIN edge_sites_componentset c ON c.digest = t.component_set_id WHERE t.site_id = ANY(%s)
"""
# Documents that the site has signed for, the newest first.
_APPLIED: Final = """
SELECT v.site_id, r.document_id FROM unnest(%s::int[]) AS v(site_id) JOIN LATERAL (
    SELECT document_id FROM edge_sites_desiredreceipt
    WHERE site_id = v.site_id AND state = 'applied' AND document_id IS NOT NULL
    GROUP BY document_id ORDER BY max(id) DESC LIMIT %s
) r ON true
"""


class From(NamedTuple):
    """An origin: its document, and the digest of the components that prove it."""

    origin: Origin
    document_id: int
    components: str


def origins(standing: Sequence[tuple[Site, SiteDesired]]) -> dict[int, From]:
    """By id of each site that has one. Within the open scope; `standing` has the newest documents with it.

    Proven is the newest document that the site says it applied and that its last report shows; else it is the last good
    one that is known, which only its word can prove.
    """
    reported = _reported([site.pk for site, _ in standing])
    found: dict[int, From] = {}
    for site, row in standing:
        document = standing_of(site, row)
        if document is None:
            continue
        components, shown = reported.get(site.pk, ("", {}))
        said = (row.reported_epoch, row.reported_version, row.reported_state)
        is_said = said == (document.epoch, document.version, "applied")
        origin = Origin.PROVEN if is_said and shows(shown, document.content) else Origin.LAST_GOOD
        found[site.pk] = From(origin, document.pk, components)
    doubtful = [pk for pk, one in found.items() if one.origin is Origin.LAST_GOOD]
    return found | _shown_before(doubtful, reported)


def shows(reported: Reported, content: Mapping[str, Any]) -> bool:
    """Whether a report shows all that a document asks for. A workload is known by its digest, whatever its version."""
    for wanted in expected_components(content):
        version, digest = reported.get((wanted["kind"], wanted["name"]), (None, None))
        if wanted["digests"]:
            if digest not in wanted["digests"].values():
                return False
        elif version != wanted["version"]:
            return False
    return True


def way_back(content: Mapping[str, Any], standard: Mapping[str, Any], components: str) -> dict[str, Any]:
    """What leads a site back to the document `content`, at which it reported the set of components of that digest.

    Kernel and packages that a document does not name are left alone: those that the standard changes, and the origin
    never named, are named as the site reported them. (An agent's wheel that nobody gave out cannot be.)
    """
    changed, own = standard.get("os") or {}, content.get("os") or {}
    packages, kernel = dict(own.get("packages", {})), own.get("kernel")
    unnamed = sorted(set(changed.get("packages", {})) - set(packages))
    takes_kernel = bool(changed.get("kernel")) and kernel is None
    if not unnamed and not takes_kernel:
        return dict(content)
    reported = _set_of(components)
    if takes_kernel:
        kernel = reported.get(("kernel", KERNEL_NAME), (None, None))[0]
    packages |= {name: reported["os", name][0] for name in unnamed if ("os", name) in reported}
    reboot = own.get("reboot", "never")
    if reboot == "never":
        reboot = changed.get("reboot", "never")
    return {**content, "os": {"packages": packages, "kernel": kernel, "reboot": reboot}}


def _set_of(digest: str) -> Reported:
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute("SELECT components::text FROM edge_sites_componentset WHERE digest = %s", [digest])
        row = cursor.fetchone()
    return _by_name(row[0]) if row else {}


def _shown_before(site_ids: Sequence[int], reported: Mapping[int, tuple[str, Reported]]) -> dict[int, From]:
    """For sites that do not run what they say: the newest document among their last ones that they do run."""
    if not site_ids:
        return {}
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_APPLIED, [list(site_ids), _LOOKED_AT])
        applied = cursor.fetchall()
    contents = dict(DesiredDocument.objects.filter(pk__in=[pk for _, pk in applied]).values_list("pk", "content"))
    found: dict[int, From] = {}
    for site_id, document_id in applied:
        components, shown = reported.get(site_id, ("", {}))
        if site_id not in found and components and shows(shown, contents[document_id]):
            found[site_id] = From(Origin.PROVEN, document_id, components)
    return found


def _reported(site_ids: Iterable[int]) -> dict[int, tuple[str, Reported]]:
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_REPORTED, [list(site_ids)])
        rows = cursor.fetchall()
    parsed = {text: _by_name(text) for text in {text for _, _, text in rows}}
    return {site_id: (digest, parsed[text]) for site_id, digest, text in rows}


def _by_name(text: str) -> Reported:
    return {(kind, name): (version, digest) for kind, name, version, digest in msgspec.json.decode(text)}
