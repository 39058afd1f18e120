"""Public holidays of countries and their parts, from the package `holidays`. Pure."""

from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from typing import Final

import holidays

FIRST_YEAR: Final = 2000
LAST_YEAR: Final = 2100


def problem_with(country: str, subdivision: str) -> str:
    """Why there are no holidays of this place, as a sentence; empty where there are."""
    try:
        holidays.country_holidays(country, subdiv=subdivision or None, years=[])
    except (NotImplementedError, ValueError, TypeError):
        place = f"{country}-{subdivision}" if subdivision else country
        return f"There are no public holidays known of {place[:40]!r}: use codes like DE, or DE and BY."
    return ""


def dates_of(country: str, subdivision: str, years: Iterable[int]) -> frozenset[date]:
    """The public holidays of a place in these years. The place must have passed problem_with()."""
    return frozenset(day for year in years for day in _of_year(country, subdivision, year))


@lru_cache(maxsize=1024)
def _of_year(country: str, subdivision: str, year: int) -> frozenset[date]:
    if not FIRST_YEAR <= year <= LAST_YEAR:
        return frozenset()
    return frozenset(holidays.country_holidays(country, subdiv=subdivision or None, years=[year]))
