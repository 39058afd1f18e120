"""Changes of sites: made, edited, handed over, begun, retired; polled at once; taken by somebody."""

import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.module_loading import import_string

from fleet.kit import audit, live
from fleet.kit.errors import Conflict, Invalid, NotAllowed, NotFound
from fleet.kit.tenancy import Rights, Scope, scope
from sites.models import (
    SHARDS,
    Acknowledgement,
    ComponentSpan,
    JoinToken,
    JournalCursor,
    Outage,
    PollSchedule,
    Provider,
    Site,
    SiteDesired,
    SiteIdentity,
    SiteState,
    SiteTenure,
    StateInterval,
)
from sites.states import LIFE_CHANGES, LIVE_IDENTITIES, Life, Reachability

EDITABLE = (
    *("slug", "name", "place", "country", "time_zone", "lat", "lon", "provider_id", "region", "ring", "labels"),
    *("address", "poll_interval_s", "contacts", "notes"),
)
_TENURE_FIELDS = ("name", "slug", "place", "time_zone")


def allow(rights: Rights, action: str, site: Site) -> None:
    """Raise NotAllowed unless the action is the viewer's on this site."""
    if not rights.may_on(action, provider_id=site.provider_id, region=site.region, labels=site.labels):
        raise NotAllowed("Your role does not allow this on this site.")


def lock(site: Site) -> Site:
    """The site's row as it stands, locked, but not its key: who writes a row that refers to the site need not wait.

    Raises NotFound for a site beyond the open scope, like every door to it.
    """
    locked = Site.objects.select_for_update(no_key=True).filter(pk=site.pk).first()
    if locked is None:
        raise NotFound("There is no such site, or it is not yours to see.")
    return locked


def lock_with_state(site: Site) -> Site:
    """`lock()`, and its state: before its key or one of its facts changes.

    A poll that is recorded locks the state, then writes facts, which refer to the site: the other way round each could
    wait for the other.
    """
    locked = lock(site)
    SiteState.objects.select_for_update(no_key=True).filter(site=site).first()
    return locked


def create_site(*, actor: Scope, rights: Rights, values: Mapping[str, Any], life: str = Life.PLANNED) -> Site:
    """Make one site; see create_sites()."""
    return create_sites(actor=actor, rights=rights, rows=[{**values, "life": life}])[0]


def create_sites(*, actor: Scope, rights: Rights, rows: Sequence[Mapping[str, Any]]) -> list[Site]:
    """Make sites with their tenures, all or none; active ones are polled from now on. Audited, one row a site.

    A row holds names of EDITABLE (`provider` may stand for `provider_id`), and perhaps `life` and `uuid`.
    Raises Invalid (fields in `details`), NotAllowed.
    """
    with scope(actor):
        now = timezone.now()
        made = [_new_site(row) for row in rows]
        for site in made:
            _check(site)
            allow(rights, "site.change", site)
        try:
            Site.objects.bulk_create(made, batch_size=1000)
        except IntegrityError as error:
            raise _taken(error) from None
        SiteTenure.objects.bulk_create(
            [SiteTenure(site=s, provider_id=s.provider_id, valid_from=now, **_tenure_values(s)) for s in made],
            batch_size=1000,
        )
        _begin_polling([site for site in made if site.life == Life.ACTIVE], now)
        audit.record_many(actor, "site.create", [(object_of(site), snapshot(site)) for site in made])
        live.publish(hints=[((topic, 0), pk) for pk in {s.provider_id for s in made} for topic in ("figures", "map")])
    return made


def update_site(*, actor: Scope, rights: Rights, site: Site, values: Mapping[str, Any]) -> Site:
    """Change a site. A new provider is a hand-over: open facts end under the old one and begin under the new. Audited.

    Raises NotFound, Invalid, NotAllowed (also when the change would put the site beyond the viewer's reach), Conflict.
    """
    with scope(actor):
        before_site = lock_with_state(site)
        allow(rights, "site.change", before_site)
        before = snapshot(before_site)
        changed = _editable(values)
        for name, value in changed.items():
            setattr(before_site, name, value)
        _check(before_site)
        allow(rights, "site.change", before_site)
        before_site.updated_at = timezone.now()
        _save(before_site, [*changed, "updated_at"])
        now = before_site.updated_at
        if before_site.provider_id != before["provider_id"]:
            _hand_over(before_site, now)
        elif any(before[name] != getattr(before_site, name) for name in _TENURE_FIELDS):
            SiteTenure.objects.filter(site=site, valid_to=None).update(**_tenure_values(before_site))
        if before_site.poll_interval_s != before["poll_interval_s"] or before_site.address != before["address"]:
            PollSchedule.objects.filter(site=site).update(
                interval_s=before_site.poll_interval_s, backoff=1, next_poll_at=Now()
            )
        _record_change(actor, before_site, before)
        told = {before_site.provider_id, before["provider_id"]}
        live.publish(hints=[(hint, pk) for pk in told for hint in (("site", site.pk), ("figures", 0), ("map", 0))])
    return before_site


def change_life(*, actor: Scope, rights: Rights, site: Site, life: str) -> Site:
    """Begin (active) or end (retired) a site's life. A retired site keeps its history and is no longer polled. Audited.

    Raises NotFound, NotAllowed, Conflict for a change that LIFE_CHANGES does not know.
    """
    with scope(actor):
        locked = lock_with_state(site)
        allow(rights, "site.change", locked)
        if (locked.life, life) not in LIFE_CHANGES:
            raise Conflict(f"A {locked.life} site cannot become {life}.")
        before, now = {"life": locked.life}, timezone.now()
        locked.life, locked.updated_at = life, now
        locked.save(update_fields=["life", "updated_at"])
        if life == Life.ACTIVE:
            _begin_polling([locked], now)
        else:
            PollSchedule.objects.filter(site=locked).delete()
            _close_open_facts(locked, now, {"life": life, "by": actor.name})
            Acknowledgement.objects.filter(site=locked, cleared_at=None).update(cleared_at=now)
        _record(actor, f"site.{life}", locked, before=before, after={"life": life})
        live.publish(hints=[((topic, 0), locked.provider_id) for topic in ("figures", "attention", "map")])
    return locked


def poll_now(*, actor: Scope, rights: Rights, site: Site) -> None:
    """Make an active site due at once; the next tick, within a second, has it polled. Raises Conflict, NotAllowed."""
    with scope(actor):
        allow(rights, "site.poll", site)
        if not PollSchedule.objects.filter(site=site).update(next_poll_at=Now()):
            raise Conflict("Only active sites are polled.")
        _record(actor, "site.poll_now", site)


def acknowledge(*, actor: Scope, rights: Rights, site: Site, note: str = "") -> Acknowledgement:
    """Take a site's trouble, from whoever had it, and the outages that it is about. Audited.

    It is cleared when the site is well again. Raises NotAllowed, Conflict where nothing is wrong, Invalid for a note
    that is too long.
    """
    with scope(actor):
        taken = take_trouble(actor=actor, rights=rights, site=site, note=note)
        # Outages lie above sites, which do not know them: the settings say who takes them.
        take_outages: Callable[..., Any] = import_string(settings.OUTAGES_TAKEN_BY)
        take_outages(actor=actor, rights=rights, site=site, text=note)
    return taken


def take_trouble(*, actor: Scope, rights: Rights, site: Site, note: str = "") -> Acknowledgement:
    """The same without its outages: for whoever takes one of those. Raises as acknowledge() does."""
    with scope(actor):
        allow(rights, "site.acknowledge", site)
        if actor.user_id is None:
            raise NotAllowed("Only a person can take a site's trouble.")
        state = SiteState.objects.get(site=site)
        if state.shown == "up" and state.reachability == Reachability.REACHABLE:
            raise Conflict("This site is well; there is nothing to take.")
        earlier = Acknowledgement.objects.select_for_update().filter(site=site, cleared_at=None).first()
        if earlier is not None:
            earlier.cleared_at = timezone.now()
            earlier.save(update_fields=["cleared_at"])
        taken = Acknowledgement(
            site=site, provider_id=site.provider_id, user_id=actor.user_id, user_name=actor.name, note=note
        )
        _check(taken)
        taken.save(force_insert=True)
        _record(
            actor,
            "site.acknowledge",
            site,
            before={"owner": earlier.user_name} if earlier else None,
            after={"owner": actor.name},
            note=note,
        )
        live.publish(hints=[((topic, pk), site.provider_id) for topic, pk in (("attention", 0), ("site", site.pk))])
    return taken


def snapshot(site: Site) -> dict[str, Any]:
    """What the audit keeps of a site."""
    return {name: getattr(site, name) for name in (*EDITABLE, "life")}


# ------------------------------------------------------------------------------------------------------------
def _editable(values: Mapping[str, Any]) -> dict[str, Any]:
    unknown = values.keys() - set(EDITABLE) - {"provider"}
    if unknown:
        raise Invalid("Some fields cannot be set.", details=dict.fromkeys(sorted(unknown), "cannot be set"))
    found = {name: value for name, value in values.items() if name in EDITABLE}
    provider = values.get("provider")
    if isinstance(provider, Provider):
        found["provider_id"] = provider.pk
    return found


def _new_site(row: Mapping[str, Any]) -> Site:
    values = dict(row)
    life = values.pop("life", Life.PLANNED)
    if life not in {Life.PLANNED, Life.ACTIVE}:
        raise Invalid("A new site is planned or active.", details={"life": "planned or active"})
    return Site(uuid=values.pop("uuid", None) or uuid.uuid4(), life=life, **_editable(values))


def _check(row: Site | Acknowledgement) -> None:
    """Each field by itself; what several rows must agree on (a slug taken) is the database's to say."""
    try:
        row.clean_fields(exclude=["provider", "site", "user", "at", "cleared_at"])
    except ValidationError as error:
        details = {name: " ".join(messages) for name, messages in error.message_dict.items()}
        raise Invalid("Some values cannot be taken.", details=details) from None


def _save(site: Site, fields: list[str]) -> None:
    try:
        site.save(update_fields=fields)
    except IntegrityError as error:
        raise _taken(error) from None


def _taken(error: IntegrityError) -> Invalid:
    """Uniqueness is the database's to judge: a slug may be taken by a site that the viewer cannot see."""
    if "slug" in str(error):
        return Invalid("This slug is taken.", details={"slug": "This slug is taken."})
    return Invalid("The database refused the site.", details={"site": str(error).split("\n")[0]})


def _tenure_values(site: Site) -> dict[str, str]:
    return {name: getattr(site, name) for name in _TENURE_FIELDS}


def _begin_polling(sites: Sequence[Site], now: datetime) -> None:
    """Schedules with a random phase, and the state `unknown` from now on; a site that was retired starts afresh."""
    spread_s = {site.pk: random.random() * site.poll_interval_s for site in sites}
    PollSchedule.objects.bulk_create(
        [
            PollSchedule(
                site=site,
                provider_id=site.provider_id,
                shard=site.pk % SHARDS,
                interval_s=site.poll_interval_s,
                next_poll_at=now + timedelta(seconds=spread_s[site.pk]),
            )
            for site in sites
        ],
        batch_size=1000,
    )
    fresh = ("availability_since", "reachability_since", "shown_since", "changed_at")
    SiteState.objects.bulk_create(
        [SiteState(site=site, provider_id=site.provider_id, **dict.fromkeys(fresh, now)) for site in sites],
        update_conflicts=True,
        unique_fields=["site"],
        update_fields=["provider", "availability", "reachability", "shown", "misses", "last_good_at", *fresh],
        batch_size=1000,
    )
    StateInterval.objects.bulk_create(
        [
            StateInterval(
                site=site,
                provider_id=site.provider_id,
                axis="availability",
                state="unknown",
                valid_from=now,
                source="inference",
                evidence={"life": "active"},
            )
            for site in sites
        ],
        batch_size=1000,
    )


def _close_open_facts(site: Site, now: datetime, evidence: dict[str, Any]) -> list[StateInterval]:
    """Close what is open of the site at `now`. Returns the intervals that were open."""
    closed: list[StateInterval] = []
    for model in (StateInterval, Outage, ComponentSpan):
        rows = list(model.objects.select_for_update().filter(site=site, valid_to=None, superseded_at=None))
        model.objects.filter(pk__in=[row.pk for row in rows]).update(valid_to=now, closed_at=now, evidence_end=evidence)
        if model is StateInterval:
            closed = [row for row in rows if isinstance(row, StateInterval)]
    return closed


def _hand_over(site: Site, now: datetime) -> None:
    """End the old provider's tenure and facts at `now`, and begin the new one's with the same states.

    The old provider keeps its evidence; the new one does not read another's history.
    """
    evidence = {"hand_over": now.isoformat()}
    outage = Outage.objects.filter(site=site, valid_to=None, superseded_at=None).first()
    span = ComponentSpan.objects.filter(site=site, valid_to=None, superseded_at=None).first()
    open_intervals = _close_open_facts(site, now, evidence)
    SiteTenure.objects.filter(site=site, valid_to=None).update(valid_to=now)
    SiteTenure.objects.create(site=site, provider_id=site.provider_id, valid_from=now, **_tenure_values(site))
    common = {"site": site, "provider_id": site.provider_id, "valid_from": now, "evidence": evidence}
    for row in open_intervals:
        StateInterval.objects.create(axis=row.axis, state=row.state, source=row.source, **common)
    if outage is not None:
        Outage.objects.create(cause=outage.cause, source=outage.source, **common)
    if span is not None:
        ComponentSpan.objects.create(component_set_id=span.component_set_id, source=span.source, **common)
    # The keys stay the site's; the new provider's CA certifies them at once. Who held a join string may not join.
    Site.objects.filter(pk=site.pk).exclude(tls_pin="").update(tls_push_at=now)
    SiteIdentity.objects.filter(site=site, state__in=LIVE_IDENTITIES).update(provider_id=site.provider_id)
    JoinToken.objects.filter(site=site, withdrawn_at=None).update(withdrawn_at=now)
    JournalCursor.objects.filter(site=site).update(provider_id=site.provider_id)
    SiteDesired.objects.filter(site=site).update(provider_id=site.provider_id, due_at=now)
    PollSchedule.objects.filter(site=site).update(provider_id=site.provider_id)
    SiteState.objects.filter(site=site).update(provider_id=site.provider_id, version=_next_version())
    Acknowledgement.objects.filter(site=site, cleared_at=None).update(cleared_at=now)


def _next_version() -> Any:
    """A poll that was under way at the hand-over carries the old provider: its version guard drops it."""
    return F("version") + 1


def _record(
    actor: Scope,
    action: str,
    site: Site,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    note: str = "",
) -> None:
    audit.record(actor, action, **object_of(site), before=before, after=after, note=note)


def _record_change(actor: Scope, site: Site, before: dict[str, Any]) -> None:
    """What was before a hand-over is the old provider's and what came after it the new one's: neither reads the row."""
    which = object_of(site)
    if site.provider_id != before["provider_id"]:
        which["provider_id"] = None
    audit.record(actor, "site.change", **which, before=before, after=snapshot(site))


def object_of(site: Site) -> dict[str, Any]:
    """The site as the audit names it: part of audit.record()."""
    return {
        "object_type": "site",
        "object_id": site.pk,
        "object_name": site.name,
        "provider_id": site.provider_id,
    }
