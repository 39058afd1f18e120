"""Lists of outages by what is asked for, with cause and owner in the same query; the scope must be open."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from fleet.kit.tenancy import Scope
from sites.models import Site
from slas.models import Finding, IncidentNote, IncidentSpan
from slas.selectors.incidents import spans_in
from slas.states import Cause, Charged, Note


@dataclass(frozen=True, slots=True)
class Asked:
    """What a list is narrowed to; empty values let everything through. `state` is `open` or `over`.

    `site` is a word of its name, or its short name; `begin` and `end` bound the time that an outage touches.
    """

    state: str = ""
    kind: str = ""
    provider: str = ""
    cause: str = ""
    charged: str = ""
    site: str = ""
    unowned: bool = False
    begin: datetime | None = None
    end: datetime | None = None


def outages_in(who: Scope, asked: Asked) -> QuerySet[IncidentSpan]:
    """Parts of outages, newest first, with `cause`, `charged`, `owner` and `taken_at`."""
    found = with_why(spans_in(who)).select_related("incident", "provider", "site")
    if asked.state:
        found = found.filter(valid_to=None) if asked.state == "open" else found.exclude(valid_to=None)
    if asked.kind:
        found = found.filter(kind=asked.kind)
    if asked.provider:
        found = found.filter(provider__slug=asked.provider)
    # Names that with_why() adds, and mypy does not know.
    annotated = {"cause": asked.cause, "charged": asked.charged}
    found = found.filter(**{name: value for name, value in annotated.items() if value})
    if asked.site:
        found = found.filter(Q(site__slug=asked.site) | Q(site__name__icontains=asked.site))
    if asked.unowned:
        found = found.exclude(Exists(_taken()))
    if asked.end is not None:
        found = found.filter(valid_from__lt=asked.end)
    if asked.begin is not None:
        found = found.filter(Q(valid_to=None) | Q(valid_to__gt=asked.begin))
    return found


def with_why(found: QuerySet[IncidentSpan]) -> QuerySet[IncidentSpan]:
    """The same with `cause` and `charged` (the newest correction, else the newest by rule), `owner`, `taken_at`."""
    why = Finding.objects.filter(incident=OuterRef("incident"), provider=OuterRef("provider"))
    why = why.order_by("-is_correction", "-id")
    taken = _taken().order_by("-id")
    return found.annotate(
        cause=Coalesce(Subquery(why.values("cause")[:1]), Value(str(Cause.UNKNOWN))),
        charged=Coalesce(Subquery(why.values("charged_to")[:1]), Value(str(Charged.NOBODY))),
        owner=Subquery(taken.values("author_name")[:1]),
        taken_at=Subquery(taken.values("at")[:1]),
    )


def open_by_site(who: Scope, site_ids: Iterable[int]) -> dict[int, IncidentSpan]:
    """The outage that lasts at each of these sites, with `owner` and `taken_at`; of several the worst kind's."""
    found = with_why(spans_in(who).filter(valid_to=None, site__in=list(site_ids)))
    worst = {"down": 2, "unreachable": 1}
    return {row.site_id: row for row in sorted(found, key=lambda row: worst.get(row.kind, 0))}


def outages_of_site(who: Scope, site: Site, *, since: datetime, limit: int) -> list[IncidentSpan]:
    """Outages of a site that touch the time since then, newest first."""
    found = with_why(spans_in(who).filter(site=site)).filter(Q(valid_to=None) | Q(valid_to__gt=since))
    return list(found[:limit])


def _taken() -> QuerySet[IncidentNote]:
    return IncidentNote.objects.filter(incident=OuterRef("incident"), kind=Note.ACKNOWLEDGED)
