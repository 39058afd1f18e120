"""The demo's sites are the same ones every time, and make sense."""

import ipaddress
import json
from collections import Counter
from pathlib import Path
from zoneinfo import ZoneInfo

from agent.fleet_file import read_fleet
from fleet.stack.demo import fleet
from fleet.stack.demo.company import PROVIDERS, REGIONS, USERS
from fleet.stack.demo.sites import demo_sites, slugify
from fleet.stack.state import State


def test_a_longer_list_begins_with_the_shorter_one() -> None:
    assert demo_sites(2000)[:60] == demo_sites(60)
    assert demo_sites(60) == demo_sites(60)


def test_sixty_sites_are_spread_as_a_company_is() -> None:
    sites = demo_sites(60)
    assert Counter(site.region for site in sites) == {region.name: region.share for region in REGIONS}
    assert {site.provider for site in sites} == {provider.slug for provider in PROVIDERS}
    assert min(Counter(site.provider for site in sites).values()) >= 5
    assert {site.ring for site in sites} == {"canary", "early", "stable"}
    assert {site.profile for site in sites} == {"factory", "shop", "warehouse"}
    assert len({(site.city.name, site.city.country) for site in sites}) >= 55
    assert sites[0].slug == "berlin-shop-1"


def test_every_site_is_one_of_a_kind_and_on_the_globe() -> None:
    sites = demo_sites(20_500)
    assert len({site.slug for site in sites}) == len({site.uuid for site in sites}) == 20_500
    assert len({site.address(9101) for site in sites}) == 20_500
    block = ipaddress.ip_network("127.64.0.0/10")
    assert all(ipaddress.ip_address(site.host) in block for site in sites)
    assert "127.64.0.1" not in {site.host for site in sites}  # the host agent's
    assert all(-90 <= site.lat <= 90 and -180 <= site.lon <= 180 for site in sites)
    assert all(slugify(site.slug) == site.slug and len(site.slug) <= 64 for site in sites)
    for zone in {site.city.time_zone for site in sites}:
        ZoneInfo(zone)


def test_a_process_plays_10000_sites_at_a_port_of_its_own() -> None:
    sites = demo_sites(20_500)
    assert Counter(site.process for site in sites) == {0: 10_000, 1: 10_000, 2: 500}
    assert sites[10_000].address(9101) == "127.64.1.1:9102"
    assert fleet.process_count(20_500) == 3


def test_the_simulator_takes_the_fleet_files(state: State) -> None:
    sites = demo_sites(60)
    fleet.write_fleet_files(state, sites, {sites[1].uuid: "archipelago1.x"})
    specs = read_fleet(fleet.fleet_file(state, 0))
    assert [spec.join for spec in specs] == ["", "archipelago1.x", *[""] * 58]
    assert [(spec.site, spec.address, spec.profile) for spec in specs] == [
        (site.uuid, site.host, site.profile) for site in sites
    ]


def test_slugs_are_plain() -> None:
    assert [slugify(name) for name in ("Malmö", "Sankt Pölten", "Kraków", "L’Hospitalet", "東京", "Ålesund/Ø")] == [
        *("malmo", "sankt-polten", "krakow", "lhospitalet", "site", "alesund-o"),
    ]


def test_users_have_a_provider_only_if_they_are_a_providers() -> None:
    slugs = {provider.slug for provider in PROVIDERS}
    assert [user.name for user in USERS] == ["admin", "noc", "manager", *(f"provider{n}" for n in range(1, 7))]
    assert {user.provider for user in USERS if user.provider} == slugs
    assert all((user.role == "provider_operator") == (user.provider is not None) for user in USERS)


def test_fleet_files_are_private(state: State) -> None:
    fleet.write_fleet_files(state, demo_sites(3), {})
    path: Path = fleet.fleet_file(state, 0)
    assert path.stat().st_mode & 0o077 == 0
    assert len(json.loads(path.read_text())["sites"]) == 3
