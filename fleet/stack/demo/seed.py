"""Puts the demo company into the database: the same rows every time, nothing twice, no change by people undone."""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid5

from django.db.models import OuterRef, Subquery
from django.utils import timezone

from fleet.kit import audit, signing
from fleet.kit.tenancy import job, scope
from fleet.people.models import User
from fleet.people.services import make_user
from fleet.stack.demo.company import COMPANY, HOST_SITE_UUID, MAIL_DOMAIN, PROVIDERS, USERS
from fleet.stack.demo.contracts import make_contracts
from fleet.stack.demo.fleet import has_identities, write_fleet_files, write_join
from fleet.stack.demo.rollouts import begin_rollout
from fleet.stack.demo.sites import NAMESPACE, SMALL_FLEET, DemoSite, demo_sites
from fleet.stack.demo.standards import make_standards
from fleet.stack.processes import HOST_AGENT
from fleet.stack.state import State, write_private
from sites.models import PollSchedule, Provider, Site, SiteIdentity
from sites.services.bulk import begin_many, make_many, retire_many
from sites.services.joining import join_string, make_tokens
from sites.services.storage import keep_partitions
from sites.states import IdentityState, Life

ACTOR = job("demo")
BATCH = 2_000
SIGNER_S = 30.0


def seed(state: State, *, number: int, port: int, password: str) -> dict[str, int]:
    """Make the demo's providers, its people, and its host site with `number` simulated ones, all of them polled.

    `port` is the host agent's; the simulators follow it. Sites of a larger demo before are retired, and begun again
    when the demo grows. Changes the database, the fleet files and the notes in `state`. Returns counts of changes.
    """
    now = timezone.now()
    keep_partitions(now)  # those made ahead do not reach far enough when the system was off for long
    simulated = demo_sites(number)
    trusted = _roots()
    with scope(ACTOR):
        providers = _providers()
        counts = _sites(_Notes(state), simulated, providers, port, now)
        make_standards(ACTOR)
        audit.record(
            ACTOR,
            "demo.seed",
            object_type="fleet",
            object_id="demo",
            object_name=f"{COMPANY}, {number} simulated sites",
            provider_id=None,
            after=counts,
        )
        joins = _joins(state, simulated, bytes.fromhex(trusted.root_sha256), now)
    write_fleet_files(state, simulated, joins)
    if UUID(HOST_SITE_UUID) in joins:
        write_join(state, joins[UUID(HOST_SITE_UUID)])
    _people(_Notes(state), providers, password)
    begin_rollout(ACTOR)
    make_contracts(ACTOR)
    return counts


def _roots() -> signing.Roots:
    """The fleet's roots from the signer, which may have been started just now."""
    deadline = time.monotonic() + SIGNER_S
    while True:
        try:
            return signing.roots()
        except signing.SignerAway:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


class _Notes:
    """What the last seeding did, so that this one leaves alone what people changed since."""

    def __init__(self, state: State) -> None:
        self._path = state.base / "demo" / "seeded.json"
        try:
            self._known: dict[str, Any] = json.loads(self._path.read_text())
        except (OSError, ValueError):
            self._known = {}

    def get(self, name: str, default: Any) -> Any:
        return self._known.get(name, default)

    def put(self, name: str, value: Any) -> None:
        self._known[name] = value
        write_private(self._path, json.dumps(self._known))


def _providers() -> dict[str, int]:
    """Ids of the demo's providers by slug; made where they are missing."""
    Provider.objects.bulk_create(
        [Provider(slug=provider.slug, name=provider.name, contact=provider.contact) for provider in PROVIDERS],
        ignore_conflicts=True,
    )
    return dict(Provider.objects.values_list("slug", "pk"))


def _sites(
    notes: _Notes, simulated: Sequence[DemoSite], providers: Mapping[str, int], port: int, now: datetime
) -> dict[str, int]:
    interval_s = 10 if len(simulated) <= SMALL_FLEET else 30
    rows = [_host_row(providers, port), *(_row(site, providers, port + 1, interval_s) for site in simulated)]
    fields = ("uuid", "slug", "address", "poll_interval_s", "life", "provider_id")
    known = {site.uuid: site for site in Site.objects.only(*fields)}
    slugs = {site.slug for site in known.values()}
    new = [row for row in rows if row.uuid not in known and row.slug not in slugs]
    make_many(new, now=now)
    moved = _move([(known[row.uuid], row) for row in rows if row.uuid in known], now)
    wanted = {row.uuid for row in rows}
    before = notes.get("sites", 0)
    grown = [known[site.uuid] for site in simulated[before:] if site.uuid in known]
    again = [site for site in grown if site.life == Life.RETIRED]
    begin_many(again, now=now)
    ours = [site for site in known.values() if site.life == Life.ACTIVE and _is_simulated(site)]
    surplus = [site for site in ours if site.uuid not in wanted]
    retire_many(surplus, now=now, evidence={"demo": len(simulated)})
    notes.put("sites", len(simulated))
    return {"made": len(new), "moved": moved, "retired": len(surplus), "begun_again": len(again)}


def _joins(state: State, simulated: Sequence[DemoSite], root_sha256: bytes, now: datetime) -> dict[UUID, str]:
    """Join strings of the sites that never joined, or whose agent lost its keys; none for whom people said no."""
    kept = {process: has_identities(state, process) for process in {None, *(site.process for site in simulated)}}
    process_of: dict[UUID, int | None] = {UUID(HOST_SITE_UUID): None} | {site.uuid: site.process for site in simulated}
    refused = SiteIdentity.objects.filter(state__in=[IdentityState.REJECTED, IdentityState.REVOKED])
    sites = Site.objects.filter(uuid__in=process_of, life=Life.ACTIVE, identity_frozen_at=None)
    fresh = [
        site
        for site in sites.exclude(pk__in=refused.values("site_id"))
        if not (site.tls_pin and kept[process_of[site.uuid]])
    ]
    secrets = make_tokens(fresh, made_by=ACTOR.name, now=now)
    return {site.uuid: join_string(site, secrets[site.pk], root_sha256=root_sha256) for site in fresh}


def _move(pairs: Sequence[tuple[Site, Site]], now: datetime) -> int:
    """Give sites the addresses and intervals that this start of the demo uses."""
    changed = []
    for site, row in pairs:
        if (site.address, site.poll_interval_s) != (row.address, row.poll_interval_s):
            site.address, site.poll_interval_s, site.updated_at = row.address, row.poll_interval_s, now
            changed.append(site)
    Site.objects.bulk_update(changed, ["address", "poll_interval_s", "updated_at"], batch_size=BATCH)
    interval = Site.objects.filter(pk=OuterRef("site_id")).values("poll_interval_s")
    PollSchedule.objects.filter(site__in=[site.pk for site in changed]).update(interval_s=Subquery(interval), backoff=1)
    return len(changed)


def _is_simulated(site: Site) -> bool:
    return site.uuid == uuid5(NAMESPACE, site.slug)


def _row(site: DemoSite, providers: Mapping[str, int], port: int, interval_s: int) -> Site:
    return Site(
        uuid=site.uuid,
        slug=site.slug,
        name=site.name,
        place=site.city.name,
        country=site.city.country,
        time_zone=site.city.time_zone,
        lat=site.lat,
        lon=site.lon,
        provider_id=providers[site.provider],
        region=site.region,
        ring=site.ring,
        labels=site.labels,
        address=site.address(port),
        poll_interval_s=interval_s,
        contacts=site.contacts,
        life=Life.ACTIVE,
    )


def _host_row(providers: Mapping[str, int], port: int) -> Site:
    return Site(
        uuid=UUID(HOST_SITE_UUID),
        slug="hamburg-head-office",
        name="Hamburg Head Office",
        place="Hamburg",
        country="DE",
        time_zone="Europe/Berlin",
        lat=53.5459,
        lon=9.9661,
        provider_id=providers["alpenrack"],
        region="DACH",
        ring="canary",
        labels={"kind": "office", "tier": "1"},
        address=f"{HOST_AGENT}:{port}",
        poll_interval_s=10,
        contacts=f"Platform team: platform@{MAIL_DOMAIN}",
        notes="The agent of this site reports the very machine that Archipelago runs on.",
        life=Life.ACTIVE,
    )


def _people(notes: _Notes, providers: Mapping[str, int], password: str) -> None:
    """Make the demo's users; those that exist get the password only when it is another than the last time."""
    known = set(User.objects.values_list("username", flat=True))
    digest = sha256(password.encode()).hexdigest()
    same = notes.get("password_sha256", None) == digest
    for user in USERS:
        if not (same and user.name in known):
            make_user(
                actor=ACTOR,
                username=user.name,
                password=password,
                role=user.role,
                email=f"{user.name}@{f'{user.provider}.example' if user.provider else MAIL_DOMAIN}",
                provider_id=providers[user.provider] if user.provider else None,
            )
    notes.put("password_sha256", digest)
