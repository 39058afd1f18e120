"""What proves an outage: every fact that touches its time, also what was recorded before; the scope must be open."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.db.models import Q

from fleet.kit.tenancy import Scope
from sites.models import DesiredDocument, JournalEntry, Site, StateInterval
from sites.selectors.access import sites_in
from slas.models import CentreBlind, Incident, IncidentSpan, Window

MOST: Final = 200
# What came just before and just after an outage says as much of it as what was within.
AROUND: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Facts about a site around a time, each list in order; `site` is None for who does not see it any more."""

    site: Site | None
    spans: Sequence[IncidentSpan]
    intervals: Sequence[StateInterval]
    entries: Sequence[JournalEntry]
    documents: Sequence[DesiredDocument]
    windows: Sequence[Window]
    blind: Sequence[CentreBlind]

    @property
    def is_cut(self) -> bool:
        """Whether a list may have been longer."""
        lists = (self.spans, self.intervals, self.entries, self.documents, self.windows, self.blind)
        return any(len(found) == MOST for found in lists)


def evidence_of(who: Scope, incident: Incident) -> Evidence:
    """Everything on record about the time of an incident that the viewer may see; row-level security keeps tenures
    apart. Each list is cut after MOST."""
    spans = list(
        IncidentSpan.objects.filter(incident=incident).select_related("provider").order_by("recorded_at", "id")[:MOST]
    )
    standing = [span for span in spans if span.superseded_at is None]
    begin = min(span.valid_from for span in standing or spans) - AROUND
    ends = [span.valid_to for span in standing or spans]
    end = None if None in ends else max(one for one in ends if one is not None) + AROUND
    place = {"site": incident.site_id}
    touches = Q(valid_to=None) | Q(valid_to__gte=begin)
    intervals = StateInterval.objects.filter(touches, **place)
    entries = JournalEntry.objects.filter(mapped_at__gte=begin, **place)
    entries = entries.select_related("envelope").defer("envelope__body")
    documents = DesiredDocument.objects.filter(sent_at__gte=begin, **place)
    windows = Window.objects.filter(sites__site=incident.site_id, ends__gt=begin).select_related("provider")
    blind = CentreBlind.objects.filter(touches)
    if end is not None:
        intervals, blind = intervals.filter(valid_from__lte=end), blind.filter(valid_from__lte=end)
        entries, documents = entries.filter(mapped_at__lte=end), documents.filter(sent_at__lte=end)
        windows = windows.filter(begins__lt=end)
    return Evidence(
        sites_in(who).filter(pk=incident.site_id).first(),
        spans,
        list(intervals.order_by("valid_from", "id")[:MOST]),
        list(entries.order_by("mapped_at", "seq")[:MOST]),
        list(documents.defer("envelope", "content").order_by("sent_at")[:MOST]),
        list(windows.order_by("begins")[:MOST]),
        list(blind.order_by("valid_from")[:MOST]),
    )
