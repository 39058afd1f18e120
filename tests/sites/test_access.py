"""Every read of sites, as every kind of viewer: each shows exactly what the memberships reach."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.kit.errors import NotAllowed, NotFound
from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import Rights, Scope, scope
from fleet.people.models import Membership, User
from fleet.people.selectors import access_of
from sites.models import Acknowledgement, PollSchedule, Provider, Site, SiteTenure
from sites.selectors import access as reach
from sites.selectors import fleet_wide, one_site
from sites.services.providers import save_provider
from sites.services.reports import record_reports
from sites.services.sites import acknowledge, change_life, create_site, poll_now, update_site
from tests.conftest import TEST, everything
from tests.database import OWNER, rows
from tests.sites.builders import polled

ALL = ["a1", "a2", "b1", "b2"]


@pytest.fixture
def fleet(make_provider: Callable[..., Provider], make_site: Callable[..., Site]) -> dict[str, Provider]:
    """Providers a and b with two sites each, in two regions, with labels, all of them down."""
    providers = {"a": make_provider("a", name="Alpha"), "b": make_provider("b", name="Beta")}
    facts = {
        "a1": {"region": "DACH", "labels": {"tier": "1"}, "ring": "canary"},
        "a2": {"region": "Nordics", "labels": {"tier": "2"}},
        "b1": {"region": "DACH", "labels": {"tier": "1", "kind": "office"}},
        "b2": {"region": "Nordics", "labels": {"tier": "1", "kind": "shop"}},
    }
    for slug, values in facts.items():
        site = make_site(slug, providers[slug[0]], name=f"Branch {slug}", **values)
        for _ in range(3):
            record_reports([polled(site, "down")], poller="test")
    return providers


# Memberships (role, provider, regions, labels), and the sites that they reach.
CASES: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "fleet-wide": ([{"role": "viewer"}], ALL),
    "region": ([{"role": "viewer", "regions": ["DACH"]}], ["a1", "b1"]),
    "two regions": ([{"role": "viewer", "regions": ["DACH", "Nordics"]}], ALL),
    "label": ([{"role": "operator", "labels": {"tier": "1"}}], ["a1", "b1", "b2"]),
    "two labels": ([{"role": "viewer", "labels": {"tier": "1", "kind": "shop"}}], ["b2"]),
    "region and label": ([{"role": "viewer", "regions": ["DACH"], "labels": {"kind": "office"}}], ["b1"]),
    "nothing fits": ([{"role": "viewer", "regions": ["DACH"], "labels": {"tier": "2"}}], []),
    "provider": ([{"role": "viewer", "provider": "a"}], ["a1", "a2"]),
    "provider role": ([{"role": "provider_viewer", "provider": "b"}], ["b1", "b2"]),
    "provider and region": ([{"role": "provider_operator", "provider": "a", "regions": ["Nordics"]}], ["a2"]),
    "provider and label": ([{"role": "provider_viewer", "provider": "b", "labels": {"kind": "shop"}}], ["b2"]),
    "union of limits": (
        [{"role": "viewer", "regions": ["DACH"]}, {"role": "viewer", "labels": {"kind": "shop"}}],
        ["a1", "b1", "b2"],
    ),
    "union of providers": (
        [{"role": "provider_viewer", "provider": "a"}, {"role": "viewer", "provider": "b", "regions": ["DACH"]}],
        ["a1", "a2", "b1"],
    ),
    "fleet limit and provider": (
        [{"role": "viewer", "regions": ["Nordics"]}, {"role": "provider_viewer", "provider": "a"}],
        ["a1", "a2", "b2"],
    ),
    "a limit beside none": ([{"role": "viewer", "regions": ["DACH"]}, {"role": "manager"}], ALL),
    "no membership": ([], []),
}


@pytest.fixture
def viewer(database: None, fleet: dict[str, Provider]) -> Callable[[str], tuple[Scope, Rights]]:
    """The scope and rights of a person with the memberships of a case."""

    def make(case: str) -> tuple[Scope, Rights]:
        person = User.objects.create(username=case.replace(" ", "-"))
        for membership in CASES[case][0]:
            provider = fleet.get(membership.get("provider", ""))
            Membership.objects.create(user=person, **{**membership, "provider": provider})
        return access_of(person)

    return make


def reads(who: Scope) -> dict[str, Any]:
    """What each selector shows, as sorted slugs."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    names = dict(rows("SELECT id, slug FROM edge_sites_site", using=OWNER))
    with scope(who):
        found = {
            "sites_in": [site.slug for site in reach.sites_in(who)],
            "map_rows": [row[1] for row in fleet_wide.map_rows(who)],
            "attention": [site.slug for site in fleet_wide.attention(who)],
            "search": [site.slug for site in fleet_wide.search_sites(who, "branch")],
            "recent_changes": {row.site.slug for row in fleet_wide.recent_changes(who, since=yesterday)},
            "get_site": [slug for slug in ALL if may_get(who, slug)],
        }
        only = reach.visible_site_ids(who)
        if only is not None:
            found["visible_site_ids"] = [names[pk] for pk in only]
        return {name: sorted(value) for name, value in found.items()}


def may_get(who: Scope, slug: str) -> bool:
    try:
        return reach.get_site(scope=who, slug=slug).slug == slug
    except NotFound:
        return False


@pytest.mark.parametrize("case", CASES)
def test_every_selector_shows_exactly_what_is_reached(viewer, case):
    who, _ = viewer(case)
    assert {name: found for name, found in reads(who).items() if found != CASES[case][1]} == {}


@pytest.mark.parametrize("case", CASES)
def test_counts_count_only_what_is_reached(viewer, case):
    who, _ = viewer(case)
    reached = CASES[case][1]
    yesterday = datetime.now(UTC) - timedelta(days=1)
    with scope(who):
        figures = fleet_wide.figures(who)
        failures = fleet_wide.failures_by_bin(who, since=yesterday, bin_s=600)
        stamp = fleet_wide.map_stamp(who)
    assert (figures["sites"], figures["down"]) == (len(reached), len(reached))
    assert {state: count for _, state, count in failures} == ({"down": len(reached)} if reached else {})
    assert stamp.split("-")[0] == str(len(reached))


@pytest.mark.parametrize("case", CASES)
def test_providers_regions_and_rings_follow_the_sites(viewer, fleet, case):
    who, _ = viewer(case)
    reached = CASES[case][1]
    facts = {
        "a1": ("DACH", "canary"),
        "a2": ("Nordics", "stable"),
        "b1": ("DACH", "stable"),
        "b2": ("Nordics", "stable"),
    }
    with scope(who):
        providers = [provider.slug for provider in reach.providers_in(who)]
        assert providers == sorted({slug[0] for slug in reached})
        for slug in ("a", "b"):
            if slug in providers:
                assert reach.get_provider(scope=who, slug=slug).slug == slug
            else:
                with pytest.raises(NotFound):
                    reach.get_provider(scope=who, slug=slug)
        assert reach.regions_in(who) == sorted({facts[slug][0] for slug in reached})
        assert reach.rings_in(who) == sorted({facts[slug][1] for slug in reached})


def test_the_map_of_each_provider_has_its_own_stamp(viewer):
    stamps = []
    for case in ("provider", "provider role"):
        who, _ = viewer(case)
        with scope(who):
            stamps.append(fleet_wide.map_stamp(who))
    assert stamps[0] != stamps[1]


# Changes ----------------------------------------------------------------------------------------------------
VALUES = {"slug": "brand-new", "name": "New", "lat": 1.0, "lon": 2.0, "address": "203.0.113.1:9100"}


def state_of_everything() -> list[list[tuple[Any, ...]]]:
    """All that a change could change, the audit included."""
    tables = ("edge_sites_site", "edge_sites_sitetenure", "edge_sites_acknowledgement", "kit_auditentry")
    facts = [rows(f"SELECT t::text FROM {table} t ORDER BY 1", using=OWNER) for table in tables]
    return [*facts, rows("SELECT site_id, next_poll_at FROM edge_sites_pollschedule ORDER BY 1", using=OWNER)]


MAY = {
    "viewer": set(),
    "manager": {"acknowledge"},
    "operator": {"create", "change", "retire", "poll", "acknowledge"},
    "admin": {"create", "change", "retire", "poll", "acknowledge", "provider"},
    "provider_viewer": set(),
    "provider_operator": {"poll", "acknowledge"},
}


def deeds(who: Scope, rights: Rights, fleet: dict[str, Provider]) -> dict[str, Callable[[], object]]:
    """Every change there is, on site a1 and its provider."""
    site = Site.objects.using(OWNER).get(slug="a1")
    common: dict[str, Any] = {"actor": who, "rights": rights}
    return {
        "create": lambda: create_site(**common, values={**VALUES, "provider_id": fleet["a"].pk}),
        "change": lambda: update_site(**common, site=site, values={"name": "Renamed"}),
        "retire": lambda: change_life(**common, site=site, life="retired"),
        "poll": lambda: poll_now(**common, site=site),
        "acknowledge": lambda: acknowledge(**common, site=site, note="mine"),
        "provider": lambda: save_provider(**common, values={"name": "Renamed"}, provider=fleet["a"]),
    }


@pytest.mark.parametrize("deed", ["create", "change", "retire", "poll", "acknowledge", "provider"])
@pytest.mark.parametrize("role", MAY)
def test_each_change_is_for_its_roles_and_a_denied_one_changes_nothing(fleet, access, role, deed):
    who, rights = access(role, provider=fleet["a"] if role.startswith("provider") else None)
    before = state_of_everything()
    act = deeds(who, rights, fleet)[deed]
    if deed in MAY[role]:
        act()
        assert state_of_everything() != before
        entry = AuditEntry.objects.using(OWNER).order_by("-id")[0]
        assert (entry.actor, entry.actor_id) == (who.name, who.user_id)
        assert entry.provider_id == fleet["a"].pk
    else:
        with pytest.raises(NotAllowed):
            act()
        assert state_of_everything() == before


@pytest.mark.parametrize("deed", ["create", "change", "retire", "poll", "acknowledge", "provider"])
@pytest.mark.parametrize("limits", [{"regions": ["Nordics"]}, {"labels": {"tier": "2"}}, {"provider": "b"}])
def test_an_operator_changes_nothing_outside_its_limits(fleet, access, limits, deed):
    limits = {**limits, "provider": fleet.get(limits.get("provider", ""))}
    who, rights = access("admin", **limits)
    before = state_of_everything()
    # Without a row to see there is nothing to lock: a site of a foreign provider does not even exist.
    with pytest.raises((NotAllowed, NotFound, Site.DoesNotExist)):
        deeds(who, rights, fleet)[deed]()
    assert state_of_everything() == before


@pytest.mark.parametrize(
    "values", [{"region": "Nordics"}, {"labels": {}}, {"labels": {"tier": "9"}}, {"provider": "b"}]
)
def test_a_site_cannot_be_moved_out_of_the_own_reach(fleet, access, values):
    who, rights = access("operator", regions=["DACH"], labels={"tier": "1"}, provider=fleet["a"])
    before = state_of_everything()
    values = {name: fleet["b"].pk if name == "provider" else value for name, value in values.items()}
    values = {name.replace("provider", "provider_id"): value for name, value in values.items()}
    with pytest.raises(NotAllowed):
        update_site(actor=who, rights=rights, site=Site.objects.using(OWNER).get(slug="a1"), values=values)
    assert state_of_everything() == before


def test_an_operator_of_one_provider_runs_its_own_sites(fleet, access):
    who, rights = access("operator", provider=fleet["a"])
    site = create_site(actor=who, rights=rights, values={**VALUES, "provider_id": fleet["a"].pk}, life="active")
    update_site(actor=who, rights=rights, site=site, values={"name": "Newer", "poll_interval_s": 60})
    change_life(actor=who, rights=rights, site=site, life="retired")
    change_life(actor=who, rights=rights, site=site, life="active")
    poll_now(actor=who, rights=rights, site=site)
    actions = AuditEntry.objects.using(OWNER).filter(actor_id=who.user_id).order_by("id")
    assert list(actions.values_list("action", flat=True)) == [
        *("site.create", "site.change", "site.retired", "site.active", "site.poll_now")
    ]
    assert PollSchedule.objects.using(OWNER).get(site=site).interval_s == 60


# Hand-over --------------------------------------------------------------------------------------------------
def test_after_a_hand_over_the_new_provider_reads_nothing_of_the_old_ones_time(fleet, access):
    site = Site.objects.using(OWNER).get(slug="a1")
    who, rights = access("provider_operator", provider=fleet["a"])
    acknowledge(actor=who, rights=rights, site=site, note="Alpha's technician is on the way")
    update_site(actor=TEST, rights=everything(), site=site, values={"provider": fleet["b"], "notes": "Beta's now"})
    record_reports([polled(site, "up")], poller="test")

    new, _ = access("provider_viewer", provider=fleet["b"])
    with scope(new):
        seen = reach.get_site(scope=new, slug="a1")
        began = SiteTenure.objects.get(site=seen).valid_from
        assert {row.provider_id for row in seen.intervals.all()} == {fleet["b"].pk}
        assert min(row.valid_from for row in one_site.intervals_of(seen, since=began - timedelta(days=9))) == began
        assert min(row.valid_from for row in seen.outages.filter(superseded_at=None)) == began
        assert not Acknowledgement.objects.exists()
        assert rows("SELECT DISTINCT provider_id FROM sample WHERE site_id = %s", [seen.pk]) == [(fleet["b"].pk,)]
        assert one_site.audit_of(seen) == []

    old, _ = access("provider_viewer", provider=fleet["a"])
    with scope(old):
        with pytest.raises(NotFound):
            reach.get_site(scope=old, slug="a1")
        # Its evidence stays its own.
        assert {row.provider_id for row in SiteTenure.objects.filter(site_id=site.pk)} == {fleet["a"].pk}
        assert rows("SELECT DISTINCT provider_id FROM edge_sites_stateinterval WHERE site_id = %s", [site.pk]) == [
            (fleet["a"].pk,)
        ]
        assert Acknowledgement.objects.get().cleared_at is not None
        assert "Beta" not in str([(row.before, row.after) for row in AuditEntry.objects.all()])
    entry = AuditEntry.objects.using(OWNER).filter(action="site.change").get()
    assert entry.before == {"provider_id": fleet["a"].pk, "notes": ""}
    assert entry.after == {"provider_id": fleet["b"].pk, "notes": "Beta's now"}
