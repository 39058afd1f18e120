"""What proves the figures of a report: intervals with their polls and journal pages, outages with every finding,
maintenance with its approvals, our own blindness, what was agreed. As known at a moment; the scope must be open.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from django.db import connections
from django.db.models import F, Q, QuerySet

from fleet.kit.tenancy import DEFAULT
from sites.models import StateInterval
from slas.models import (
    Adjustment,
    CentreBlind,
    ContractVersion,
    Finding,
    IncidentNote,
    IncidentSpan,
    Window,
    WindowSite,
)

_CHUNK: Final = 5_000
# The pages that hold the entries which an interval rests on; of each its digest, as it was received.
_PAGES: Final = """
SELECT e.site_id, e.identity_id, e.from_seq, e.to_seq, e.head, e.received_at, encode(sha256(e.body), 'hex'),
    encode(i.signing_key, 'base64')
FROM edge_sites_journalenvelope e JOIN edge_sites_siteidentity i ON i.id = e.identity_id
JOIN unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS n(identity, first, last)
    ON n.identity = e.identity_id AND n.first <= e.to_seq AND n.last >= e.from_seq
WHERE e.received_at <= %s
GROUP BY e.id, i.id ORDER BY e.site_id, e.from_seq, e.id
"""


def evidence_of(
    version: ContractVersion, begin: datetime, end: datetime, as_of: datetime, sites: Sequence[int]
) -> Generator[dict[str, Any]]:
    """Everything that `sites` under a version rest on within `[begin, end)`, one object a fact."""
    yield from _agreed(version)
    pages: list[tuple[int, int, int]] = []
    for interval in _known(StateInterval.objects.filter(site__in=sites), begin, end, as_of).iterator(_CHUNK):
        for proof in (interval.evidence, interval.evidence_end):
            found = (proof or {}).get("journal")
            if found:
                pages.append((found["identity"], found["from_seq"], found["to_seq"]))
        yield _interval(interval, as_of)
    yield from _pages(pages, as_of)
    yield from _outages(begin, end, as_of, sites, with_notes=True)
    yield from _granted(begin, end, as_of, sites)
    yield from _maintenance(begin, end, as_of, sites)
    yield from _blindness(begin, end, as_of)


def facts_of(
    site_ids: Sequence[int],
    begin: datetime,
    end: datetime,
    as_of: datetime,
    *,
    granted: bool,
    maintenance: bool,
    blindness: bool,
) -> Iterator[dict[str, Any]]:
    """Of a site or few, what is shown of that: states and outages, and what else is asked for.

    Neither what was agreed, nor digests of pages, nor who said what.
    """
    for interval in _known(StateInterval.objects.filter(site__in=site_ids), begin, end, as_of):
        yield _interval(interval, as_of)
    yield from _outages(begin, end, as_of, site_ids, with_notes=False)
    if granted:
        yield from _granted(begin, end, as_of, site_ids)
    if maintenance:
        yield from _maintenance(begin, end, as_of, site_ids)
    if blindness:
        yield from _blindness(begin, end, as_of)


# ------------------------------------------------------------------------------------------------------------
def _agreed(version: ContractVersion) -> Iterator[dict[str, Any]]:
    for segment in version.segments.all():
        yield {
            "type": "segment",
            "id": segment.pk,
            "contract": version.contract.slug,
            "version": version.number,
            "agreed_by": version.made_by,
            "agreed_at": _at(version.made_at),
            "reason": version.reason,
            "zone": version.zone,
            "labels": version.labels,
            "regions": version.regions,
            "provider": segment.provider.slug,
            "begins": _at(segment.begins),
            "ends": _at(segment.ends),
            "fee": str(segment.fee),
            "currency": segment.currency,
            "rule_version": segment.rule_version,
            "terms": segment.terms,
        }


def _known(rows: QuerySet[Any], begin: datetime, end: datetime, as_of: datetime) -> QuerySet[Any]:
    """Facts that were within the time, as known at a moment."""
    return rows.filter(
        Q(superseded_at=None) | Q(superseded_at__gt=as_of),
        Q(valid_to=None) | Q(closed_at__gt=as_of) | Q(valid_to__gt=begin) & Q(valid_to__gt=F("valid_from")),
        recorded_at__lte=as_of,
        valid_from__lt=end,
    ).order_by("site_id", "valid_from", "id")


def _fact(kind: str, row: Any, as_of: datetime) -> dict[str, Any]:
    is_closed = row.closed_at is not None and row.closed_at <= as_of
    return {
        "type": kind,
        "id": row.pk,
        "site": row.site_id,
        "from": _at(row.valid_from),
        "to": _at(row.valid_to) if is_closed else None,
        "recorded_at": _at(row.recorded_at),
        "proof": row.evidence,
        "proof_of_end": row.evidence_end if is_closed else None,
    }


def _interval(row: StateInterval, as_of: datetime) -> dict[str, Any]:
    return {**_fact("interval", row, as_of), "axis": row.axis, "state": row.state, "source": row.source}


def _pages(wanted: Sequence[tuple[int, int, int]], as_of: datetime) -> Iterator[dict[str, Any]]:
    if not wanted:
        return
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_PAGES, [*map(list, zip(*sorted(set(wanted)), strict=True)), as_of])
        for site, identity, first, last, head, received, digest, key in cursor.fetchall():
            yield {
                "type": "journal_page",
                "site": site,
                "identity": identity,
                "from_seq": first,
                "to_seq": last,
                "head": head,
                "received_at": _at(received),
                "sha256": digest,
                "signed_by": key.replace("\n", ""),
            }


def _outages(
    begin: datetime, end: datetime, as_of: datetime, sites: Sequence[int], *, with_notes: bool
) -> Iterator[dict[str, Any]]:
    spans = list(_known(IncidentSpan.objects.filter(site__in=sites), begin, end, as_of).select_related("provider"))
    if not spans:
        return
    incidents = {one.incident_id for one in spans}
    findings = _by_part(Finding.objects.filter(incident__in=incidents, at__lte=as_of))
    notes = _by_part(IncidentNote.objects.filter(incident__in=incidents, at__lte=as_of)) if with_notes else {}
    for span in spans:
        key = (span.incident_id, span.provider_id)
        yield {
            **_fact("outage", span, as_of),
            "incident": span.incident_id,
            "kind": span.kind,
            "provider": span.provider.slug,
            "findings": [
                {
                    "cause": one.cause,
                    "charged_to": one.charged_to,
                    "is_correction": one.is_correction,
                    "by": one.author_name,
                    "at": _at(one.at),
                    "reason": one.reason,
                    "proof": one.proof,
                }
                for one in findings.get(key, [])
            ],
            "notes": [
                {"kind": one.kind, "side": one.side, "by": one.author_name, "at": _at(one.at)}
                for one in notes.get(key, [])
            ],
        }


def _granted(begin: datetime, end: datetime, as_of: datetime, sites: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Time of outages that was granted in disputes: it is excluded whatever the contract says of its cause."""
    found = Adjustment.objects.filter(site__in=sites, valid_from__lt=end, valid_to__gt=begin, recorded_at__lte=as_of)
    for one in found.select_related("provider").order_by("site_id", "valid_from", "id"):
        yield {
            "type": "adjustment",
            "id": one.pk,
            "dispute": one.dispute_id,
            "incident": one.incident_id,
            "site": one.site_id,
            "provider": one.provider.slug,
            "from": _at(one.valid_from),
            "to": _at(one.valid_to),
            "cause": one.cause,
            "charged_to": one.charged_to,
            "reason": one.reason,
            "by": one.author_name,
            "recorded_at": _at(one.recorded_at),
        }


def _by_part(rows: QuerySet[Any]) -> Mapping[tuple[int, int], list[Any]]:
    found: dict[tuple[int, int], list[Any]] = {}
    for row in rows.order_by("id"):
        found.setdefault((row.incident_id, row.provider_id), []).append(row)
    return found


def _maintenance(begin: datetime, end: datetime, as_of: datetime, sites: Sequence[int]) -> Iterator[dict[str, Any]]:
    own = WindowSite.objects.filter(site__in=sites)
    windows = Window.objects.filter(
        pk__in=own.values("window"), begins__lt=end, ends__gt=begin, requested_at__lte=as_of
    ).select_related("provider")
    listed = list(windows)
    if not listed:
        return
    places: dict[int, list[int]] = {}
    for row in own.filter(window__in=[window.pk for window in listed]).order_by("site_id"):
        places.setdefault(row.window_id, []).append(row.site_id)
    for window in listed:
        is_decided = window.decided_at is not None and window.decided_at <= as_of
        is_cancelled = window.cancelled_at is not None and window.cancelled_at <= as_of
        yield {
            "type": "maintenance",
            "id": window.pk,
            "title": window.title,
            "provider": window.provider.slug,
            "sites": places.get(window.pk, []),
            "from": _at(window.begins),
            "to": _at(window.ends),
            "side": window.side,
            "requested_by": window.requested_name,
            "requested_at": _at(window.requested_at),
            "decided_by": window.decided_name if is_decided else "",
            "decided_at": _at(window.decided_at) if is_decided else None,
            "decided_reason": window.decided_reason if is_decided else "",
            "cancelled_by": window.cancelled_by if is_cancelled else "",
            "cancelled_at": _at(window.cancelled_at) if is_cancelled else None,
        }


def _blindness(begin: datetime, end: datetime, as_of: datetime) -> Iterator[dict[str, Any]]:
    """Times in which the centre itself could not watch."""
    found = CentreBlind.objects.filter(valid_from__lt=end, recorded_at__lte=as_of)
    for blind in found.filter(Q(valid_to=None) | Q(valid_to__gt=begin)).order_by("id"):
        yield {
            "type": "centre_blind",
            "rule": blind.rule,
            "from": _at(blind.valid_from),
            "to": _at(blind.valid_to) if blind.closed_at and blind.closed_at <= as_of else None,
            "recorded_at": _at(blind.recorded_at),
        }


def _at(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
