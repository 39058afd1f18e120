"""Maintenance windows: one side asks, the other agrees; late, or at short notice, it wants a reason."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.utils import timezone

from fleet.kit import audit, live
from fleet.kit.clock import database_now
from fleet.kit.errors import Conflict, Invalid, NotAllowed, NotFound
from fleet.kit.tenancy import Rights, Scope, scope
from sites.models import Site
from sites.selectors.access import sites_in
from slas.models import ContractVersion, Segment, Window, WindowSite
from slas.selectors.contracts import terms_of
from slas.selectors.upkeep import windows_in
from slas.services.contracts import reason_of
from slas.services.deriving import note_due
from slas.states import Side, WindowState

# The rights by which each side asks, and agrees to what the other asks for.
ASK: Final = ((Side.OPERATOR, "maintenance.plan"), (Side.PROVIDER, "maintenance.request"))
AGREE: Final = {Side.PROVIDER: "maintenance.approve", Side.OPERATOR: "maintenance.consent"}
LONGEST: Final = timedelta(days=14)
MOST_SITES: Final = 5_000


def request_window(
    *,
    actor: Scope,
    rights: Rights,
    sites: Sequence[str],
    title: str,
    begins: datetime,
    ends: datetime,
    note: str = "",
) -> Window:
    """Ask for maintenance at sites (slugs) of one provider. Audited.

    Raises NotAllowed, NotFound for a site that the actor may not see, Invalid (in the past, of several providers, too
    long; fields in `details`).
    """
    with scope(actor):
        now = database_now()
        found = _sites(actor, sites)
        side = _asking(rights, found)
        if actor.user_id is None:
            raise NotAllowed("Only a person can ask for maintenance.")
        window = Window(
            provider_id=found[0].provider_id,
            title=title.strip(),
            note=note.strip(),
            begins=begins,
            ends=ends,
            state=WindowState.REQUESTED,
            side=side,
            requested_by_id=actor.user_id,
            requested_name=actor.name[:150],
            requested_at=now,
        )
        _check(window, now)
        window.save(force_insert=True)
        WindowSite.objects.bulk_create(
            [WindowSite(window=window, site=site, provider_id=site.provider_id) for site in found]
        )
        _record(actor, "maintenance.request", window, after=_snapshot(window) | {"sites": [s.slug for s in found]})
        _publish(window)
    return window


def decide_window(*, actor: Scope, rights: Rights, window: Window, approve: bool, reason: str = "") -> Window:
    """Agree to a window, or refuse it, for the side that did not ask. Audited.

    A reason is wanted to refuse; to approve one that has begun; and to approve one that was asked for with less notice
    than a contract wants: with it, the window counts. Raises NotFound, NotAllowed, Conflict, Invalid.
    """
    with scope(actor):
        row, found = _lock(actor, window)
        _allow(rights, AGREE[Side(row.side)], found)
        if actor.user_id is None or actor.user_id == row.requested_by_id:
            raise NotAllowed("Somebody else than who asked for it agrees to it.")
        if row.state != WindowState.REQUESTED:
            raise Conflict(f"It is {row.state} already.")
        now = database_now()
        late = _why_reason(row, now) if approve else "It is refused."
        said = _reason(reason, late) if late or reason.strip() else ""
        row.state = WindowState.APPROVED if approve else WindowState.REFUSED
        row.decided_by_id, row.decided_name = actor.user_id, actor.name[:150]
        row.decided_at, row.decided_reason = now, said
        row.save(update_fields=["state", "decided_by", "decided_name", "decided_at", "decided_reason"])
        _record(actor, f"maintenance.{row.state}", row, after={"state": row.state}, note=said)
        if approve:
            note_due([site.pk for site in found], row.begins)
        _publish(row)
    return row


def cancel_window(*, actor: Scope, rights: Rights, window: Window, reason: str) -> Window:
    """Take a window back before it begins, for the side that asked for it. Audited.

    Raises NotFound, NotAllowed, Conflict (it has begun, or is over otherwise), Invalid.
    """
    why = reason_of(reason)
    with scope(actor):
        row, found = _lock(actor, window)
        _allow(rights, dict(ASK)[Side(row.side)], found)
        now = database_now()
        if row.state not in {WindowState.REQUESTED, WindowState.APPROVED}:
            raise Conflict(f"It is {row.state} already.")
        if row.state == WindowState.APPROVED and row.begins <= now:
            raise Conflict("It has begun; what was agreed on stays.")
        row.state, row.cancelled_by, row.cancelled_at, row.cancelled_reason = "cancelled", actor.name[:150], now, why
        row.save(update_fields=["state", "cancelled_by", "cancelled_at", "cancelled_reason"])
        _record(actor, "maintenance.cancelled", row, after={"state": row.state}, note=why)
        _publish(row)
    return row


def verbs_for(actor: Scope, rights: Rights, window: Window, sites: Sequence[Site], now: datetime) -> frozenset[str]:
    """What the actor may do about a window with these sites: `decide`, `cancel`. For drawing buttons: services ask."""
    found = set()
    side = Side(window.side)
    if window.state == WindowState.REQUESTED and actor.user_id not in {None, window.requested_by_id}:
        found |= {"decide"} if sites and all(_may(rights, AGREE[side], site) for site in sites) else set()
    is_open = window.state == WindowState.REQUESTED or (window.state == WindowState.APPROVED and window.begins > now)
    if is_open and sites and all(_may(rights, dict(ASK)[side], site) for site in sites):
        found.add("cancel")
    return frozenset(found)


def why_reason(window: Window, now: datetime) -> str:
    """Why an approval wants a reason; empty where it does not. Within the scope."""
    return _why_reason(window, now)


def notice_wanted(provider_id: int, begins: datetime) -> timedelta:
    """The longest notice that a contract with this provider wants of maintenance that begins then; within the scope."""
    newest = ContractVersion.objects.order_by("contract_id", "-number").distinct("contract_id").values("pk")
    segments = Segment.objects.filter(version__in=newest, provider=provider_id, begins__lte=begins)
    wanted = [terms_of(one).upkeep.notice_h for one in segments if one.ends is None or one.ends > begins]
    return timedelta(hours=float(max(wanted, default=0)))


# ------------------------------------------------------------------------------------------------------------
def _reason(reason: str, late: str) -> str:
    """The reason; where one is wanted and there is none, Invalid says for what."""
    if late and not reason.strip():
        raise Invalid(f"{late} Say why.", details={"reason": late})
    return reason_of(reason)


def _why_reason(row: Window, now: datetime) -> str:
    """Why an approval wants a reason; empty where it does not."""
    if row.begins <= now:
        return "It has begun."
    wanted = notice_wanted(row.provider_id, row.begins)
    if row.begins - row.requested_at < wanted:
        return f"A contract wants {wanted / timedelta(hours=1):g} hours of notice."
    return ""


def _sites(actor: Scope, slugs: Sequence[str]) -> list[Site]:
    wanted = set(slugs)
    if not 0 < len(wanted) <= MOST_SITES:
        raise Invalid("Some values cannot be taken.", details={"sites": f"Name 1 to {MOST_SITES} sites."})
    found = list(sites_in(actor).filter(slug__in=wanted).order_by("slug"))
    if len(found) != len(wanted):
        gone = sorted(wanted - {site.slug for site in found})[0]
        raise NotFound(f"There is no site {gone[:64]}, or it is not yours to see.")
    if len({site.provider_id for site in found}) > 1:
        raise Invalid("Some values cannot be taken.", details={"sites": "A window is for sites of one provider."})
    return found


def _asking(rights: Rights, sites: Sequence[Site]) -> Side:
    for side, action in ASK:
        if all(_may(rights, action, site) for site in sites):
            return side
    raise NotAllowed("Your role does not allow this on these sites.")


def _allow(rights: Rights, action: str, sites: Sequence[Site]) -> None:
    if not sites or not all(_may(rights, action, site) for site in sites):
        raise NotAllowed("Your role does not allow this on these sites.")


def _may(rights: Rights, action: str, site: Site) -> bool:
    return rights.may_on(action, provider_id=site.provider_id, region=site.region, labels=site.labels)


def _lock(actor: Scope, window: Window) -> tuple[Window, list[Site]]:
    """The window, locked, with its sites as they are now: one that was handed over is another provider's."""
    if not windows_in(actor).filter(pk=window.pk).exists():
        raise NotFound("There is no such maintenance window, or it is not yours to see.")
    row = Window.objects.select_for_update().get(pk=window.pk)
    named = list(WindowSite.objects.filter(window=row).values_list("site_id", flat=True))
    return row, list(Site.objects.filter(pk__in=named, provider=row.provider_id))


def _check(window: Window, now: datetime) -> None:
    details: dict[str, str] = {}
    for name in ("begins", "ends"):
        if timezone.is_naive(getattr(window, name)):
            details[name] = "Name the time zone."
    if not details:
        if window.begins <= now:
            details["begins"] = "This is in the past: maintenance is asked for before it begins."
        if window.ends <= window.begins:
            details["ends"] = "It ends before it begins."
        elif window.ends - window.begins > LONGEST:
            details["ends"] = f"A window is at most {LONGEST.days} days long."
    if not window.title:
        details["title"] = "Say what is done."
    try:
        window.clean_fields(exclude={field.name for field in Window._meta.fields} - {"title", "note"})
    except ValidationError as error:
        details |= {name: " ".join(messages) for name, messages in error.message_dict.items() if name not in details}
    if details:
        raise Invalid("Some values cannot be taken.", details=details)


def _snapshot(row: Window) -> dict[str, Any]:
    return {
        "title": row.title,
        "begins": row.begins.isoformat(),
        "ends": row.ends.isoformat(),
        "side": row.side,
        "state": row.state,
    }


def _publish(row: Window) -> None:
    live.publish(hints=[(("attention", 0), row.provider_id)])


def _record(actor: Scope, action: str, row: Window, *, after: dict[str, Any] | None = None, note: str = "") -> None:
    audit.record(
        actor,
        action,
        object_type="maintenance",
        object_id=row.pk,
        object_name=row.title,
        provider_id=row.provider_id,
        after=after,
        note=note,
    )
