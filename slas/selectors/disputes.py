"""Disputes as a viewer may see them; the scope must be open."""

from collections.abc import Iterable

from django.db.models import QuerySet

from fleet.kit.errors import NotFound
from fleet.kit.tenancy import Rights, Scope
from sites.selectors.access import sites_in
from slas.models import Adjustment, Dispute, DisputeFile
from slas.selectors.incidents import traits_at
from slas.states import DisputeState


def disputes_in(who: Scope) -> QuerySet[Dispute]:
    """Every dispute that the viewer may see, newest first: a provider its own; who is limited to regions or labels
    those about such sites."""
    found = Dispute.objects.select_related("incident", "site", "provider")
    if who.narrowed:
        found = found.filter(site__in=sites_in(who).values("pk"))
    return found.order_by("-id")


def get_dispute(*, scope: Scope, pk: int) -> Dispute:
    """One dispute. Raises NotFound, also for one that the viewer may not see."""
    found = disputes_in(scope).filter(pk=pk).first()
    if found is None:
        raise NotFound("There is no such dispute, or it is not yours to see.")
    return found


def files_of(dispute: Dispute) -> QuerySet[DisputeFile]:
    """Its files without their bytes, oldest first."""
    return DisputeFile.objects.filter(dispute=dispute).defer("body").order_by("id")


def get_file(dispute: Dispute, pk: int) -> DisputeFile:
    """A file with its bytes. Raises NotFound."""
    found = DisputeFile.objects.filter(dispute=dispute, pk=pk).first()
    if found is None:
        raise NotFound("There is no such file.")
    return found


def disputes_of(incident_ids: Iterable[int]) -> QuerySet[Dispute]:
    """Those about incidents that the viewer was handed, oldest first."""
    return Dispute.objects.filter(incident__in=list(incident_ids)).select_related("provider").order_by("id")


def granted_of(incident_id: int) -> QuerySet[Adjustment]:
    """The time that was granted of an incident, by time."""
    return Adjustment.objects.filter(incident=incident_id).select_related("provider").order_by("valid_from", "id")


def to_decide(who: Scope, rights: Rights, *, limit: int) -> list[Dispute]:
    """Open disputes that wait for this viewer's word, the oldest first."""
    if not rights.may("dispute.decide"):
        return []
    found = disputes_in(who).filter(state=DisputeState.OPEN).exclude(filed_by=who.user_id).order_by("id")
    return [row for row in found[:limit] if may_on_part(rights, "dispute.decide", row)]


def may_on_part(rights: Rights, action: str, row: Dispute) -> bool:
    """Whether the viewer may do this about a dispute: by what its site was like when its outage began."""
    traits = traits_at(row.site_id, row.provider_id, row.begins)
    region, labels = (traits.region, traits.labels) if traits else ("", {})
    return rights.may_on(action, provider_id=row.provider_id, region=region, labels=labels)
