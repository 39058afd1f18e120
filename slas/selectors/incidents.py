"""Outages as a viewer may see them, with cause, owner and what was said of them; the scope must be open."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.db.models import Exists, OuterRef, Q, QuerySet

from fleet.kit.errors import NotFound
from fleet.kit.tenancy import Scope
from sites.models import Provider
from sites.selectors.access import sites_in
from slas.models import Finding, Incident, IncidentNote, IncidentSpan, SiteTraits
from slas.states import Cause, Charged, Note, Side

Part = tuple[int, int]  # an incident and a provider


class Why(NamedTuple):
    """What counts as the cause of a part of an incident, and whether a person said so."""

    cause: Cause
    charged_to: Charged
    is_correction: bool
    reason: str


NOT_KNOWN = Why(Cause.UNKNOWN, Charged.NOBODY, False, "No rule fits what is known.")


@dataclass(frozen=True, slots=True)
class Outage:
    """An incident with what a page says of it: its parts by time, why each was, and everything that was said."""

    incident: Incident
    parts: Sequence[IncidentSpan]
    why: dict[int, Why]
    findings: Sequence[Finding]
    notes: Sequence[IncidentNote]

    @property
    def owner(self) -> IncidentNote | None:
        """Who took it last."""
        return next((note for note in reversed(self.notes) if note.kind == Note.ACKNOWLEDGED), None)

    @property
    def is_open(self) -> bool:
        """Whether it lasts."""
        return any(part.valid_to is None for part in self.parts)


def spans_in(who: Scope) -> QuerySet[IncidentSpan]:
    """Every part of an outage that stands and that the viewer may see, newest first.

    A provider sees what was while it had the site. Who is limited to regions or labels sees those of such sites.
    """
    found = IncidentSpan.objects.filter(superseded_at=None).select_related("incident", "provider")
    if who.narrowed:
        found = found.filter(site__in=sites_in(who).values("pk"))
    return found.order_by("-valid_from", "-id")


def unowned(who: Scope) -> QuerySet[IncidentSpan]:
    """Parts that last and that nobody has taken: what needs somebody."""
    taken = IncidentNote.objects.filter(incident=OuterRef("incident"), kind=Note.ACKNOWLEDGED)
    return spans_in(who).filter(valid_to=None).exclude(Exists(taken))


def get_incident(*, scope: Scope, pk: int) -> Incident:
    """One incident. Raises NotFound, also for one that the viewer may not see."""
    part = spans_in(scope).filter(incident=pk).first()
    if part is None:
        raise NotFound("There is no such outage, or it is not yours to see.")
    return part.incident


def outage_of(who: Scope, incident: Incident) -> Outage:
    """An incident with everything that the viewer may know of it."""
    parts = sorted(spans_in(who).filter(incident=incident), key=lambda part: part.valid_from)
    found = {key[1]: why for key, why in why_of([incident.pk]).items()}
    return Outage(
        incident,
        parts,
        {part.provider_id: found.get(part.provider_id, NOT_KNOWN) for part in parts},
        list(Finding.objects.filter(incident=incident).order_by("id")),
        list(IncidentNote.objects.filter(incident=incident).order_by("id")),
    )


def why_of(incidents: Iterable[int], as_of: datetime | None = None) -> dict[Part, Why]:
    """What counts as the cause, by incident and provider: the newest correction, else the newest by rule."""
    found = Finding.objects.filter(incident__in=list(incidents))
    if as_of is not None:
        found = found.filter(at__lte=as_of)
    return {
        (row.incident_id, row.provider_id): Why(
            Cause(row.cause), Charged(row.charged_to), row.is_correction, row.reason
        )
        for row in found.order_by("is_correction", "id")
    }


def response_s(part: IncidentSpan) -> float | None:
    """Seconds from the begin of a part to the provider's first acknowledgement; None where there is none."""
    first = (
        IncidentNote.objects.filter(
            incident=part.incident_id, provider=part.provider_id, kind=Note.ACKNOWLEDGED, side=Side.PROVIDER
        )
        .order_by("at")
        .first()
    )
    return None if first is None else max(0.0, (first.at - part.valid_from).total_seconds())


def traits_at(site_id: int, provider: Provider | int, moment: datetime) -> SiteTraits | None:
    """What the site was like at a moment, as far as it was that provider's."""
    found = SiteTraits.objects.filter(Q(valid_to=None) | Q(valid_to__gt=moment), site=site_id, provider=provider)
    return found.order_by("-valid_from").first()
